"""How does accuracy fall with the width multiplier?

Howard et al. 2017 (arXiv:1704.04861), table 6, top-1 accuracy at width 1.0, 0.75, 0.5, 0.25: 70.6, 68.4, 63.7, 50.6 %
with 569, 325, 149, 41 M multiply-adds.

Rows: the four widths, and their multiply-adds, parameters and measured latency. The laptop scale: a quarter of each,
1,200 steps. After 400, as many as a first sweep had, the training error stood at 39 to 52 % and seeds differed by more
than widths.
"""

BASELINE = "configs/mobilenet.py"

BASELINE_ROW = "1.0"

ROWS = {
    "1.0": {"model.width": 1.0},
    "0.75": {"model.width": 0.75},
    "0.5": {"model.width": 0.5},
    "0.25": {"model.width": 0.25},
}

LAPTOP = {
    "train.num_steps": 1200,
    "eval.every_steps": 300,
    "checkpoint.every_steps": 300,
    "record.every_steps": 60,
}

LAPTOP_ROWS = {
    "1.0": {"model.width": 0.25},
    "0.75": {"model.width": 0.1875},
    "0.5": {"model.width": 0.125},
    "0.25": {"model.width": 0.0625},
}

SEEDS = (0, 1, 2, 3, 4, 5, 6)

MEASURES = ("test_error", "training_error", "best_test_error")

CLAIMS = (
    {
        "id": "M3-0.75",
        "says": "width 0.75 has a higher error than 1.0",
        "source": "Howard et al. 2017 (arXiv:1704.04861), table 6",
        "published": "+2.2 points top-1",
        "row": "0.75",
        "against": "1.0",
        "measure": "test_error",
        "direction": "higher",
        "effect": 2.2,
    },
    {
        "id": "M3-0.5",
        "says": "width 0.5 has a higher error than 0.75",
        "source": "Howard et al. 2017 (arXiv:1704.04861), table 6",
        "published": "+4.7 points top-1",
        "row": "0.5",
        "against": "0.75",
        "measure": "test_error",
        "direction": "higher",
        "effect": 4.7,
    },
    {
        "id": "M3-0.25",
        "says": "width 0.25 has a higher error than 0.5",
        "source": "Howard et al. 2017 (arXiv:1704.04861), table 6",
        "published": "+13.1 points top-1",
        "row": "0.25",
        "against": "0.5",
        "measure": "test_error",
        "direction": "higher",
        "effect": 13.1,
    },
)
