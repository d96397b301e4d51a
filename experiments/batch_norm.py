"""Does batch normalization help a network without shortcuts?

The article "From AlexNet to MobileNet", and Ioffe, Szegedy 2015 (arXiv:1502.03167): networks with it train faster and
reach lower errors; their Inception needs 14 times fewer steps to the same accuracy.

Rows: VGG-13 without and with. The laptop scale: an eighth of the width, 600 steps of 32 patches.
"""

BASELINE = "configs/vgg16.py:B"

BASELINE_ROW = "without"

ROWS = {
    "without": {"model.batch_norm": False},
    "batch-norm": {"model.batch_norm": True},
}

LAPTOP = {
    "train.num_steps": 600,
    "eval.every_steps": 300,
    "checkpoint.every_steps": 300,
    "record.every_steps": 30,
}

SEEDS = (0, 1, 2, 3, 4, 5, 6)

MEASURES = ("test_error", "training_error", "best_test_error", "training_loss")

CLAIMS = (
    {
        "id": "BN",
        "says": "batch normalization lowers the test error",
        "source": 'The article "From AlexNet to MobileNet"',
        "published": "no number",
        "row": "batch-norm",
        "against": "without",
        "measure": "test_error",
        "direction": "lower",
    },
    {
        "id": "BN-training",
        "says": "it lowers the training loss after the same number of steps",
        "source": "Ioffe, Szegedy 2015, section 4.2.2",
        "published": "14 times fewer steps",
        "row": "batch-norm",
        "against": "without",
        "measure": "training_loss",
        "direction": "lower",
    },
)
