"""Is average pooling a better head for GoogLeNet than a fully connected layer?

Szegedy et al. 2015 (arXiv:1409.4842), section 5: the move from fully connected layers to average pooling improved the
top-1 accuracy by 0.6 points; what the fully connected layers were is not said. Here: one of 1,024 units, at the laptop
scale 128.

Rows: fully connected, average pooling. The laptop scale: an eighth of the width, batch normalization, 400 steps.
"""

BASELINE = "configs/googlenet.py"

BASELINE_ROW = "fc"

ROWS = {
    "fc": {"model.head": "fc"},
    "gap": {"model.head": "gap"},
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
        "id": "G2",
        "says": "average pooling has a lower error than a fully connected layer",
        "source": "Szegedy et al. 2015 (arXiv:1409.4842), section 5",
        "published": "-0.6 points top-1",
        "row": "gap",
        "against": "fc",
        "measure": "test_error",
        "direction": "lower",
        "effect": -0.6,
    },
)
