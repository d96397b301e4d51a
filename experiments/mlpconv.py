"""Are convolutions followed by 1x1 convolutions better than convolutions alone?

Lin, Chen, Yan 2014 (arXiv:1312.4400): a small network over each pixel's channels in the place of a linear filter. No
number of the paper isolates it; the article has 1x1 convolutions as NIN's idea.

Rows: convolutions alone with as many features, mlpconv. The laptop scale: a third of the width, 1,200 steps of 32
patches, shifted and mirrored, as CIFAR is not. A first sweep of 600 steps at a rate of 0.02 left four of the six
networks without mlpconv at chance; the laptop recipe has 0.005 since.
"""

BASELINE = "configs/nin.py"

BASELINE_ROW = "linear"

ROWS = {
    "linear": {"model.mlpconv": False},
    "mlpconv": {"model.mlpconv": True},
}

LAPTOP = {
    "train.num_steps": 1200,
    "eval.every_steps": 600,
    "checkpoint.every_steps": 600,
    "record.every_steps": 30,
}

SEEDS = (0, 1, 2, 3, 4, 5)

MEASURES = ("test_error", "training_error", "best_test_error")

CLAIMS = (
    {
        "id": "NIN",
        "says": "1x1 convolutions after each convolution lower the error",
        "source": 'The article "From AlexNet to MobileNet"',
        "published": "no number",
        "row": "mlpconv",
        "against": "linear",
        "measure": "test_error",
        "direction": "lower",
    },
)
