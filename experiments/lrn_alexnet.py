"""Does local response normalization help AlexNet?

Krizhevsky, Sutskever, Hinton 2012, section 3.3: it lowers the top-1 error by 1.4 and the top-5 error by 1.2 points; a
four-layer network on CIFAR-10 goes from 13 % to 11 % (its definitions differ in more than the normalization).

Rows: with and without. The laptop scale: a quarter of the width, 500 steps of 64 patches of photographs.
"""

BASELINE = "configs/alexnet.py"

BASELINE_ROW = "without"

ROWS = {
    "without": {"model.lrn": False},
    "lrn": {"model.lrn": True},
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
        "id": "A1",
        "says": "local response normalization lowers AlexNet's error",
        "source": "Krizhevsky, Sutskever, Hinton 2012, section 3.3",
        "published": "-1.4 points top-1, -1.2 top-5",
        "row": "lrn",
        "against": "without",
        "measure": "test_error",
        "direction": "lower",
        "effect": -1.4,
    },
)
