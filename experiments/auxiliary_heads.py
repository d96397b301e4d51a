"""Do auxiliary classifiers help GoogLeNet?

Szegedy et al. 2015 (arXiv:1409.4842), section 5, from memory: about 0.5 points, and one of the two suffices.

Rows: without, with both. The laptop scale: an eighth of the width, batch normalization, 400 steps of 32 patches.
"""

BASELINE = "configs/googlenet.py"

BASELINE_ROW = "without"

ROWS = {
    "without": {"model.aux_heads": False},
    "auxiliary": {"model.aux_heads": True},
}

LAPTOP = {
    "model.width_factor": 0.125,
    "train.num_steps": 400,
    "eval.every_steps": 200,
    "checkpoint.every_steps": 200,
    "record.every_steps": 20,
}

SEEDS = (0, 1, 2, 3, 4, 5)

MEASURES = ("test_error", "training_error", "best_test_error")

CLAIMS = (
    {
        "id": "G3",
        "says": "auxiliary classifiers lower the error",
        "source": "Szegedy et al. 2015 (arXiv:1409.4842), section 5 (from memory)",
        "published": "about -0.5 points",
        "row": "auxiliary",
        "against": "without",
        "measure": "test_error",
        "direction": "lower",
        "effect": -0.5,
    },
)
