"""What is each kind of augmentation worth?

Krizhevsky, Sutskever, Hinton 2012, section 4.1: without crops and flips the network overfits substantially; noise along
the principal components of colour lowers the top-1 error by more than 1 point.

Rows: all three, each of them left out, and none; without crops the whole central square is shown at 224 pixels, in
training and in the test. The laptop scale: crops are shifts by up to 4 pixels; a quarter of the width, 700 steps of 64
of the first 2,560 patches: few, so that there is something to overfit.
"""

BASELINE = "configs/alexnet.py"

BASELINE_ROW = "none"

ROWS = {
    "none": {
        "data.augment.shorter_side": (224, 224),
        "eval.resize": 224,
        "data.augment.flip": False,
        "data.augment.pca_noise_std": 0.0,
    },
    "all": {},
    "no-crops": {"data.augment.shorter_side": (224, 224), "eval.resize": 224},
    "no-flips": {"data.augment.flip": False},
    "no-colour": {"data.augment.pca_noise_std": 0.0},
}

LAPTOP = {
    "data.train_split": "train[:25%]",
    "train.num_steps": 700,
    "eval.every_steps": 350,
    "checkpoint.every_steps": 350,
    "record.every_steps": 35,
}

LAPTOP_ROWS = {
    "none": {"data.augment.pad": 0, "data.augment.flip": False, "data.augment.pca_noise_std": 0.0},
    "no-crops": {"data.augment.pad": 0},
}

SEEDS = (0, 1, 2, 3, 4, 5, 6, 7)

MEASURES = ("test_error", "training_error", "best_test_error")

CLAIMS = (
    {
        "id": "A5",
        "says": "noise along the principal components of colour lowers the error",
        "source": "Krizhevsky, Sutskever, Hinton 2012, section 4.1",
        "published": "more than 1 point top-1",
        "row": "all",
        "against": "no-colour",
        "measure": "test_error",
        "direction": "lower",
        "effect": -1.0,
    },
    {
        "id": "A5-crops",
        "says": "random crops lower the error",
        "source": "Krizhevsky, Sutskever, Hinton 2012, section 4.1",
        "published": "substantial overfitting without",
        "row": "all",
        "against": "no-crops",
        "measure": "test_error",
        "direction": "lower",
    },
    {
        "id": "A5-flips",
        "says": "random flips lower the error",
        "source": "Krizhevsky, Sutskever, Hinton 2012, section 4.1",
        "published": "substantial overfitting without",
        "row": "all",
        "against": "no-flips",
        "measure": "test_error",
        "direction": "lower",
    },
    {
        "id": "A5-all",
        "says": "augmentation lowers the error",
        "source": "Krizhevsky, Sutskever, Hinton 2012, section 4.1",
        "published": "substantial overfitting without",
        "row": "all",
        "against": "none",
        "measure": "test_error",
        "direction": "lower",
    },
)
