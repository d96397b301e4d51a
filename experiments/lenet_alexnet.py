"""What did AlexNet gain over LeNet: is deeper and wider better?

The article "From AlexNet to MobileNet": AlexNet is a deeper and much wider LeNet. No numbers; here both see the same
32-pixel colour images.

Rows: LeNet-5, AlexNet for 32-pixel images at an eighth of its width, and at a quarter (the laptop scale), or half and
full (CIFAR-10).
"""

BASELINE = "configs/alexnet.py"

BASELINE_ROW = "lenet"

ROWS = {
    "lenet": {
        "model.name": "lenet",
        "model.variant": None,
        "model.lrn_size": None,
        "model.lrn_alpha": None,
        "model.lrn_beta": None,
        "model.overlapping_pooling": None,
        "model.left_out": None,
        "model.activation": None,
        "model.dropout_rate": None,
        "model.stem": None,
        "model.weight_init": None,
        "model.towers": None,
        "model.width_factor": None,
    },
    "narrow": {"model.width_factor": 0.5},
    "wide": {"model.width_factor": 1.0},
}

PAPER = {
    "data.source": "tfds:cifar10",
    "data.eval_split": "test",
    "data.image_size": 32,
    "data.mean": (125.3, 123.0, 113.9),
    "data.std": (63.0, 62.1, 66.7),
    "data.augment.shorter_side": (),
    "data.augment.pad": 4,
    "data.augment.pca_noise_std": 0.0,
    "data.synthetic_classes": 10,
    "model.stem": "cifar",
    "model.weight_init": "modern",
    "eval.protocol": "original",
    "eval.resize": None,
}

LAPTOP = {
    "train.num_steps": 500,
    "eval.every_steps": 250,
    "checkpoint.every_steps": 250,
    "record.every_steps": 20,
}

LAPTOP_ROWS = {
    "narrow": {"model.width_factor": 0.125},
    "wide": {"model.width_factor": 0.25},
}

SEEDS = (0, 1, 2, 3, 4, 5, 6)

MEASURES = ("test_error", "training_error", "best_test_error")

CLAIMS = (
    {
        "id": "LeNet",
        "says": "AlexNet has a lower error than LeNet",
        "source": 'The article "From AlexNet to MobileNet"',
        "published": "no number",
        "row": "wide",
        "against": "lenet",
        "measure": "test_error",
        "direction": "lower",
    },
    {
        "id": "LeNet-wider",
        "says": "the wider AlexNet has a lower error than the narrower",
        "source": 'The article "From AlexNet to MobileNet"',
        "published": "no number",
        "row": "wide",
        "against": "narrow",
        "measure": "test_error",
        "direction": "lower",
    },
)
