"""Does local response normalization help VGG? The paper says that it does not.

Simonyan, Zisserman 2015 (arXiv:1409.1556), table 3: A has errors of 29.6 / 10.4 % (top-1 / top-5), A-LRN 29.7 / 10.5 %.
No difference means: less than 1.4 points, what it was worth in AlexNet.

Rows: A and A-LRN, tested densely at the paper's scale. The laptop scale: an eighth of the width, 600 steps of 32
patches.
"""

BASELINE = "configs/vgg16.py:A"

BASELINE_ROW = "A"

ROWS = {
    "A": {"model.variant": "A"},
    "A-LRN": {"model.variant": "A-LRN"},
}

PAPER = {
    "eval.protocol": "dense",
    "eval.resize": None,
    "eval.scales": (256,),
}

LAPTOP = {
    "train.num_steps": 600,
    "eval.every_steps": 300,
    "checkpoint.every_steps": 300,
    "record.every_steps": 30,
}

SEEDS = (0, 1, 2, 3, 4, 5, 6, 7)

MEASURES = ("test_error", "training_error", "best_test_error")

CLAIMS = (
    {
        "id": "V1",
        "says": "local response normalization makes no difference in VGG",
        "source": "Simonyan, Zisserman 2015 (arXiv:1409.1556), table 3",
        "published": "29.7 - 29.6 = +0.1 points top-1",
        "row": "A-LRN",
        "against": "A",
        "measure": "test_error",
        "direction": "equal",
        "effect": 0.1,
        "margin": 1.4,
    },
)
