"""Does training at many scales help VGG?

Simonyan, Zisserman 2015 (arXiv:1409.1556), table 3: D trained at one scale has a top-1 error of 27.0 %, trained with
the shorter side random in [256, 512] 25.6 %, tested at one scale.

Rows: one scale, many; tested densely at the middle of the scales of training, 256 and 384. The laptop scale: 32 pixels
out of patches enlarged to 40, or to 32 to 48; A at an eighth of the width, 2,400 steps of 32 patches.
"""

BASELINE = "configs/vgg16.py"

BASELINE_ROW = "one-scale"

ROWS = {
    "one-scale": {"data.augment.shorter_side": (256, 256), "eval.scales": (256,)},
    "jitter": {"data.augment.shorter_side": (256, 512), "eval.scales": (384,)},
}

PAPER = {
    "eval.protocol": "dense",
    "eval.resize": None,
}

LAPTOP = {
    "model.variant": "A",
    "data.augment.pad": 0,
    "eval.protocol": "single_crop",
    "eval.resize": 40,
    "train.num_steps": 2400,
    "eval.every_steps": 600,
    "checkpoint.every_steps": 600,
    "record.every_steps": 120,
}

LAPTOP_ROWS = {
    "one-scale": {"data.augment.shorter_side": (40, 40)},
    "jitter": {"data.augment.shorter_side": (32, 48)},
}

SEEDS = (0, 1, 2, 3, 4, 5)

MEASURES = ("test_error", "training_error", "best_test_error")

CLAIMS = (
    {
        "id": "V5",
        "says": "scale jitter in training lowers the error",
        "source": "Simonyan, Zisserman 2015 (arXiv:1409.1556), table 3",
        "published": "25.6 - 27.0 = -1.4 points top-1",
        "row": "jitter",
        "against": "one-scale",
        "measure": "test_error",
        "direction": "lower",
        "effect": -1.4,
    },
)
