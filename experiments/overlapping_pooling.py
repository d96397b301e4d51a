"""Do overlapping pools help AlexNet?

Krizhevsky, Sutskever, Hinton 2012, section 3.4: windows of 3x3 with stride 2 instead of 2x2 lower the top-1 error by
0.4 and the top-5 error by 0.3 points, and such networks are a little harder to overfit.

Rows: windows of 2x2, windows of 3x3, both with stride 2. The laptop scale: a quarter of the width, 500 steps of 64
patches of photographs.
"""

BASELINE = "configs/alexnet.py"

BASELINE_ROW = "2x2"

ROWS = {
    "2x2": {"model.overlapping_pooling": False},
    "3x3": {"model.overlapping_pooling": True},
}

LAPTOP = {
    "train.num_steps": 500,
    "eval.every_steps": 250,
    "checkpoint.every_steps": 250,
    "record.every_steps": 20,
}

SEEDS = (0, 1, 2, 3, 4, 5)

MEASURES = ("test_error", "training_error", "best_test_error")

CLAIMS = (
    {
        "id": "A2",
        "says": "overlapping pools lower AlexNet's error",
        "source": "Krizhevsky, Sutskever, Hinton 2012, section 3.4",
        "published": "-0.4 points top-1, -0.3 top-5",
        "row": "3x3",
        "against": "2x2",
        "measure": "test_error",
        "direction": "lower",
        "effect": -0.4,
    },
)
