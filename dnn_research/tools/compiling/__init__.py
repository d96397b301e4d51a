"""Train steps compiled for accelerators that are not here, and what is read out of them."""
