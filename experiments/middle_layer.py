"""Does depth matter: what does leaving out a middle layer of AlexNet cost?

Krizhevsky, Sutskever, Hinton 2012, section 7: leaving out any of the middle layers loses about 2 points of top-1
accuracy.

Rows: the whole network, without conv3, without conv4. The laptop scale: a quarter of the width, 500 steps of 64
patches.
"""

BASELINE = "configs/alexnet.py"

BASELINE_ROW = "whole"

ROWS = {
    "whole": {},
    "no-conv3": {"model.left_out": ("conv3",)},
    "no-conv4": {"model.left_out": ("conv4",)},
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
        "id": "A7-conv3",
        "says": "without conv3 the error is higher",
        "source": "Krizhevsky, Sutskever, Hinton 2012, section 7",
        "published": "about 2 points top-1",
        "row": "no-conv3",
        "against": "whole",
        "measure": "test_error",
        "direction": "higher",
        "effect": 2.0,
    },
    {
        "id": "A7-conv4",
        "says": "without conv4 the error is higher",
        "source": "Krizhevsky, Sutskever, Hinton 2012, section 7",
        "published": "about 2 points top-1",
        "row": "no-conv4",
        "against": "whole",
        "measure": "test_error",
        "direction": "higher",
        "effect": 2.0,
    },
)
