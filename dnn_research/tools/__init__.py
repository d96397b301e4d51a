"""Commands that are not training."""
