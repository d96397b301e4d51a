"""Does dropout help Network in Network, which has no fully connected layers?

Lin, Chen, Yan 2014 (arXiv:1312.4400), table 1 (the first number from memory): 14.51 % without and 10.41 % with dropout
on CIFAR-10, without augmentation.

Rows: rate 0 and rate 0.5 after the first two blocks. The laptop scale: a third of the width, no augmentation, 900
steps of 32 of the first 2,560 patches.
"""

BASELINE = "configs/nin.py"

BASELINE_ROW = "without"

ROWS = {
    "without": {"model.dropout_rate": 0.0},
    "dropout": {"model.dropout_rate": 0.5},
}

LAPTOP = {
    "data.train_split": "train[:25%]",
    "data.augment.pad": 0,
    "data.augment.flip": False,
    "train.num_steps": 900,
    "eval.every_steps": 450,
    "checkpoint.every_steps": 450,
    "record.every_steps": 30,
}

SEEDS = (0, 1, 2, 3, 4, 5)

MEASURES = ("test_error", "training_error", "best_test_error")

CLAIMS = (
    {
        "id": "N1",
        "says": "dropout between the blocks lowers NIN's error",
        "source": "Lin, Chen, Yan 2014 (arXiv:1312.4400), table 1 (from memory)",
        "published": "10.41 - 14.51 = -4.1 points",
        "row": "dropout",
        "against": "without",
        "measure": "test_error",
        "direction": "lower",
        "effect": -4.1,
    },
)
