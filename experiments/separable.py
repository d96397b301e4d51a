"""What do depthwise separable convolutions cost in accuracy?

Howard et al. 2017 (arXiv:1704.04861), table 4: 71.7 % top-1 accuracy with full convolutions (4,866 M multiply-adds,
29.3 M parameters), 70.6 % with separable ones (569 M, 4.2 M).

Rows: full, separable. The laptop scale: a quarter of the width, 400 steps of 32 patches.
"""

BASELINE = "configs/mobilenet.py"

BASELINE_ROW = "full"

ROWS = {
    "full": {"model.separable": False},
    "separable": {"model.separable": True},
}

LAPTOP = {
    "train.num_steps": 400,
    "eval.every_steps": 200,
    "checkpoint.every_steps": 200,
    "record.every_steps": 20,
}

SEEDS = (0, 1, 2, 3, 4, 5)

MEASURES = ("test_error", "training_error", "best_test_error")

CLAIMS = (
    {
        "id": "M1",
        "says": "separable convolutions have a higher error than full ones",
        "source": "Howard et al. 2017 (arXiv:1704.04861), table 4",
        "published": "71.7 - 70.6 = +1.1 points top-1",
        "row": "separable",
        "against": "full",
        "measure": "test_error",
        "direction": "higher",
        "effect": 1.1,
    },
)
