"""Are two towers better than one of half the width?

Krizhevsky, Sutskever, Hinton 2012, section 3.2: the network of two towers has errors 1.7 (top-1) and 1.2 (top-5)
points below one with half as many kernels in each convolution; the last convolution and the fully connected layers
keep their size, so both have about as many parameters.

Rows: one tower of half the width, two towers, one of the full width. The laptop scale: a quarter of the width, 500
steps of 64 patches.
"""

BASELINE = "configs/alexnet.py"

BASELINE_ROW = "half"

ROWS = {
    "half": {"model.variant": "half"},
    "two-towers": {"model.variant": "paper"},
    "ungrouped": {"model.variant": "ungrouped"},
}

LAPTOP = {
    "train.num_steps": 500,
    "eval.every_steps": 250,
    "checkpoint.every_steps": 250,
    "record.every_steps": 20,
}

SEEDS = (0, 1, 2, 3, 4, 5, 6)

MEASURES = ("test_error", "training_error", "best_test_error")

CLAIMS = (
    {
        "id": "A4",
        "says": "two towers have a lower error than one of half the width",
        "source": "Krizhevsky, Sutskever, Hinton 2012, section 3.2",
        "published": "-1.7 points top-1, -1.2 top-5",
        "row": "two-towers",
        "against": "half",
        "measure": "test_error",
        "direction": "lower",
        "effect": -1.7,
    },
)
