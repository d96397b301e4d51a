"""Is a thin network better than a shallow one of about the same cost?

Howard et al. 2017 (arXiv:1704.04861), table 5: width 0.75 has 68.4 % top-1 accuracy (325 M multiply-adds, 2.6 M
parameters), the full width without five pairs of layers 65.3 % (307 M, 2.9 M).

Rows: shallow, thin. The laptop scale: a quarter of the width, and three quarters of that, 400 steps of 32 patches.
"""

BASELINE = "configs/mobilenet.py"

BASELINE_ROW = "shallow"

ROWS = {
    "shallow": {"model.shallow": True},
    "thin": {"model.width": 0.75},
}

LAPTOP = {
    "train.num_steps": 400,
    "eval.every_steps": 200,
    "checkpoint.every_steps": 200,
    "record.every_steps": 20,
}

LAPTOP_ROWS = {
    "thin": {"model.width": 0.1875},
}

SEEDS = (0, 1, 2, 3, 4, 5)

MEASURES = ("test_error", "training_error", "best_test_error")

CLAIMS = (
    {
        "id": "M2",
        "says": "the thin network has a lower error than the shallow one",
        "source": "Howard et al. 2017 (arXiv:1704.04861), table 5",
        "published": "-3.1 points top-1",
        "row": "thin",
        "against": "shallow",
        "measure": "test_error",
        "direction": "lower",
        "effect": -3.1,
    },
)
