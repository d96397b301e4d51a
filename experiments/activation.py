"""Do rectified units learn faster than saturating ones?

Krizhevsky, Sutskever, Hinton 2012, section 3.1 and figure 1: a four-layer network on CIFAR-10 without regularization
reaches 25 % training error six times faster with ReLU than with tanh, the learning rate of each chosen by itself. The
article says so of ReLU against tanh and sigmoid.

Rows: ReLU, tanh, sigmoid in AlexNet for 32-pixel images, without dropout, weight decay and augmentation. Each row has
the rate that reached 25 % first on seeds that the verdict does not see.
"""

BASELINE = "configs/alexnet.py"

BASELINE_ROW = "tanh"

ROWS = {
    "tanh": {"model.activation": "tanh"},
    "relu": {"model.activation": "relu"},
    "sigmoid": {"model.activation": "sigmoid"},
}

PAPER = {
    "data.source": "tfds:cifar10",
    "data.eval_split": "test",
    "data.image_size": 32,
    "data.mean": (125.3, 123.0, 113.9),
    "data.std": (63.0, 62.1, 66.7),
    "data.augment.shorter_side": (),
    "data.augment.pad": 0,
    "data.augment.pca_noise_std": 0.0,
    "data.synthetic_classes": 10,
    "model.stem": "cifar",
    "model.weight_init": "modern",
    "eval.protocol": "original",
    "eval.resize": None,
    "data.augment.flip": False,
    "model.dropout_rate": 0.0,
    "optimizer.weight_decay": 0.0,
    "schedule.name": "constant",
    "schedule.factor": None,
    "schedule.metric": None,
    "schedule.patience": None,
    "schedule.min_scale": None,
    "train.num_epochs": 40.0,
    "record.every_steps": 20,
}

LAPTOP = {
    "data.augment.pad": 0,
    "data.augment.flip": False,
    "data.augment.pca_noise_std": 0.0,
    "model.dropout_rate": 0.0,
    "optimizer.weight_decay": 0.0,
    "schedule.name": "constant",
    "train.num_steps": 500,
    "eval.every_steps": 500,
    "checkpoint.every_steps": 500,
    "record.every_steps": 10,
}

SEEDS = (0, 1, 2, 3, 4, 5, 6)

TUNING = {"path": "schedule.learning_rate", "values": (0.003, 0.01, 0.03), "seeds": (100,)}

MEASURES = ("steps_to_25", "training_loss", "training_error", "test_error")

CLAIMS = (
    {
        "id": "A3",
        "says": "ReLU reaches 25 % training error sooner than tanh",
        "source": "Krizhevsky, Sutskever, Hinton 2012, section 3.1",
        "published": "six times faster",
        "row": "relu",
        "against": "tanh",
        "measure": "steps_to_25",
        "direction": "lower",
        "effect": 0.16666666666666666,
    },
    {
        "id": "A3-sigmoid",
        "says": "ReLU reaches 25 % training error sooner than sigmoid",
        "source": 'The article "From AlexNet to MobileNet"',
        "published": "no number",
        "row": "relu",
        "against": "sigmoid",
        "measure": "steps_to_25",
        "direction": "lower",
    },
)
