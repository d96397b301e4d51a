"""Does dropout keep AlexNet from overfitting?

Krizhevsky, Sutskever, Hinton 2012, section 4.2: without dropout the network overfits substantially; with it training
takes about twice as many iterations. Lin, Chen, Yan 2014 (arXiv:1312.4400), table 1: 14.51 % against 10.41 % on
CIFAR-10 (the former number from memory) is `dropout_nin`.

Rows: rate 0 and rate 0.5 in fc6 and fc7. The training error is counted as training sees it, with units dropped. The
laptop scale: a quarter of the width, 1,000 steps of 64 of the first 2,560 patches: few, so that there is something to
overfit.
"""

BASELINE = "configs/alexnet.py"

BASELINE_ROW = "without"

ROWS = {
    "without": {"model.dropout_rate": 0.0},
    "dropout": {"model.dropout_rate": 0.5},
}

LAPTOP = {
    "data.train_split": "train[:25%]",
    "train.num_steps": 1000,
    "eval.every_steps": 500,
    "checkpoint.every_steps": 500,
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
