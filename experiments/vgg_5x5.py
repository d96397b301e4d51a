"""Are two 3x3 convolutions better than one of 5x5?

Simonyan, Zisserman 2015 (arXiv:1409.1556), section 4.1: B with one 5x5 in the place of each pair of 3x3 has a top-1
error 7 points above B's, by the central crop.

Rows: B and B-5x5. The laptop scale: an eighth of the width, 2,400 steps of 32 patches.
"""

BASELINE = "configs/vgg16.py:A"

BASELINE_ROW = "B"

ROWS = {
    "B": {"model.variant": "B"},
    "B-5x5": {"model.variant": "B-5x5"},
}

LAPTOP = {
    "train.num_steps": 2400,
    "eval.every_steps": 600,
    "checkpoint.every_steps": 600,
    "record.every_steps": 120,
}

SEEDS = (0, 1, 2, 3, 4, 5)

MEASURES = ("test_error", "training_error", "best_test_error")

CLAIMS = (
    {
        "id": "V4",
        "says": "one 5x5 in the place of two 3x3 has a higher error",
        "source": "Simonyan, Zisserman 2015 (arXiv:1409.1556), section 4.1",
        "published": "+7 points top-1",
        "row": "B-5x5",
        "against": "B",
        "measure": "test_error",
        "direction": "higher",
        "effect": 7.0,
    },
)
