"""Which shortcuts: identities that pad with zeros, projections where dimensions change, projections everywhere?

He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), table 3, 10-crop top-1 / top-5 error of ResNet-34: A 25.03 / 7.76 %, B
24.52 / 7.46 %, C 24.19 / 7.40 %.

Rows: A, B, C, by 10 crops at the paper's scale. The laptop scale: 18 layers at a quarter of the width on 32 pixels
(they end as one), 600 steps of 32 patches.
"""

BASELINE = "configs/resnet34.py"

BASELINE_ROW = "A"

ROWS = {
    "A": {"model.shortcut": "A"},
    "B": {"model.shortcut": "B"},
    "C": {"model.shortcut": "C"},
}

PAPER = {
    "eval.protocol": "ten_crop",
}

LAPTOP = {
    "model.depth": 18,
    "train.num_steps": 600,
    "eval.every_steps": 300,
    "checkpoint.every_steps": 300,
    "record.every_steps": 30,
}

SEEDS = (0, 1, 2, 3, 4, 5, 6)

MEASURES = ("test_error", "training_error", "best_test_error")

CLAIMS = (
    {
        "id": "R2-B",
        "says": "projections where dimensions change have a lower error than padding",
        "source": "He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), table 3",
        "published": "24.52 - 25.03 = -0.5 points top-1",
        "row": "B",
        "against": "A",
        "measure": "test_error",
        "direction": "lower",
        "effect": -0.51,
    },
    {
        "id": "R2-C",
        "says": "projections everywhere have a still lower one",
        "source": "He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), table 3",
        "published": "24.19 - 24.52 = -0.3 points top-1",
        "row": "C",
        "against": "B",
        "measure": "test_error",
        "direction": "lower",
        "effect": -0.33,
    },
)
