"""Does depth help VGG, and are 3x3 convolutions better than 1x1 ones?

Simonyan, Zisserman 2015 (arXiv:1409.1556), table 3, shorter side 256, top-1 error: A 29.6 %, B 28.7, C 28.1, D 27.0, E
27.3. C has 1x1 convolutions where D has 3x3 ones, so C over B is the gain of nonlinearity alone, D over C that of
context.

Rows: A to E, tested densely at the paper's scale. The laptop scale: an eighth of the width, 2,400 steps of 32 patches.
No difference between D and E means: less than 1.1 points, what the step from C to D was worth.
"""

BASELINE = "configs/vgg16.py:A"

BASELINE_ROW = "A"

ROWS = {
    "A": {"model.variant": "A"},
    "B": {"model.variant": "B"},
    "C": {"model.variant": "C"},
    "D": {"model.variant": "D"},
    "E": {"model.variant": "E"},
}

PAPER = {
    "eval.protocol": "dense",
    "eval.resize": None,
    "eval.scales": (256,),
}

LAPTOP = {
    "train.num_steps": 2400,
    "eval.every_steps": 600,
    "checkpoint.every_steps": 600,
    "record.every_steps": 120,
}

SEEDS = (0, 1, 2, 3, 4, 5, 6, 7)

MEASURES = ("test_error", "training_error", "best_test_error")

CLAIMS = (
    {
        "id": "V2-B",
        "says": "B has a lower error than A",
        "source": "Simonyan, Zisserman 2015 (arXiv:1409.1556), table 3",
        "published": "28.7 - 29.6 = -0.9 points top-1",
        "row": "B",
        "against": "A",
        "measure": "test_error",
        "direction": "lower",
        "effect": -0.9,
    },
    {
        "id": "V3-C",
        "says": "C, with 1x1 convolutions, has a lower error than B",
        "source": "Simonyan, Zisserman 2015 (arXiv:1409.1556), table 3",
        "published": "28.1 - 28.7 = -0.6 points top-1",
        "row": "C",
        "against": "B",
        "measure": "test_error",
        "direction": "lower",
        "effect": -0.6,
    },
    {
        "id": "V3-D",
        "says": "D, with 3x3 in their place, has a lower error than C",
        "source": "Simonyan, Zisserman 2015 (arXiv:1409.1556), table 3",
        "published": "27.0 - 28.1 = -1.1 points top-1",
        "row": "D",
        "against": "C",
        "measure": "test_error",
        "direction": "lower",
        "effect": -1.1,
    },
    {
        "id": "V2",
        "says": "D has a lower error than A",
        "source": "Simonyan, Zisserman 2015 (arXiv:1409.1556), table 3",
        "published": "27.0 - 29.6 = -2.6 points top-1",
        "row": "D",
        "against": "A",
        "measure": "test_error",
        "direction": "lower",
        "effect": -2.6,
    },
    {
        "id": "V2-E",
        "says": "D and E are alike",
        "source": "Simonyan, Zisserman 2015 (arXiv:1409.1556), table 3",
        "published": "27.3 - 27.0 = +0.3 points top-1",
        "row": "E",
        "against": "D",
        "measure": "test_error",
        "direction": "equal",
        "effect": 0.3,
        "margin": 1.1,
    },
)
