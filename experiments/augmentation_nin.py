"""What are shifts and flips worth to Network in Network?

Lin, Chen, Yan 2014 (arXiv:1312.4400), table 1: 10.41 % without, 8.81 % with augmentation on CIFAR-10.

Rows: neither, both. The laptop scale: a third of the width, 900 steps of 32 of the first 2,560 patches.
"""

BASELINE = "configs/nin.py"

BASELINE_ROW = "without"

ROWS = {
    "without": {"data.augment.pad": 0, "data.augment.flip": False},
    "augmentation": {"data.augment.pad": 4, "data.augment.flip": True},
}

LAPTOP = {
    "data.train_split": "train[:25%]",
    "train.num_steps": 900,
    "eval.every_steps": 450,
    "checkpoint.every_steps": 450,
    "record.every_steps": 30,
}

SEEDS = (0, 1, 2, 3, 4, 5)

MEASURES = ("test_error", "training_error", "best_test_error")

CLAIMS = (
    {
        "id": "N2",
        "says": "shifts and flips lower NIN's error",
        "source": "Lin, Chen, Yan 2014 (arXiv:1312.4400), table 1",
        "published": "8.81 - 10.41 = -1.6 points",
        "row": "augmentation",
        "against": "without",
        "measure": "test_error",
        "direction": "lower",
        "effect": -1.6,
    },
)
