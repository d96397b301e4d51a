"""Does dropout keep AlexNet from overfitting?

Krizhevsky, Sutskever, Hinton 2012, section 4.2: without dropout the network overfits substantially; with it training
takes about twice as many iterations. Lin, Chen, Yan 2014 (arXiv:1312.4400), table 1: 14.51 % against 10.41 % on
CIFAR-10 (the former number from memory) is `dropout_nin`.

Rows: rate 0 and rate 0.5 in fc6 and fc7. The laptop scale: a quarter of the width, 800 steps of 64 patches.
"""

BASELINE = "configs/alexnet.py"

BASELINE_ROW = "without"

ROWS = {
    "without": {"model.dropout_rate": 0.0},
    "dropout": {"model.dropout_rate": 0.5},
}

LAPTOP = {
    "train.num_steps": 800,
    "eval.every_steps": 400,
    "checkpoint.every_steps": 400,
    "record.every_steps": 40,
}

SEEDS = (0, 1, 2, 3, 4, 5, 6)

MEASURES = ("test_error", "training_error", "best_test_error")

CLAIMS = (
    {
        "id": "A6",
        "says": "dropout lowers AlexNet's test error",
        "source": "Krizhevsky, Sutskever, Hinton 2012, section 4.2",
        "published": "substantial overfitting without",
        "row": "dropout",
        "against": "without",
        "measure": "test_error",
        "direction": "lower",
    },
    {
        "id": "A6-training",
        "says": "dropout raises the training error after the same number of steps",
        "source": "Krizhevsky, Sutskever, Hinton 2012, section 4.2",
        "published": "about twice as many iterations",
        "row": "dropout",
        "against": "without",
        "measure": "training_error",
        "direction": "higher",
    },
)
