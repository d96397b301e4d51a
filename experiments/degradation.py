"""Do plain networks degrade on ImageNet, and residual ones not?

He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), table 2, 10-crop top-1 error: plain-18 27.94 %, plain-34 28.54 %; ResNet-18
27.88 %, ResNet-34 25.03 %, all with shortcuts without parameters (option A).

Rows: 18 and 34 layers, plain and residual, by 10 crops at the paper's scale. Alike means: less than 1 point. The laptop
scale: a quarter of the width on 32 pixels (they end as one), 400 steps of 32 patches; `residual` has the networks that
are made for such images.
"""

BASELINE = "configs/resnet34.py"

BASELINE_ROW = "plain-18"

ROWS = {
    "plain-18": {"model.depth": 18, "model.residual": False},
    "plain-34": {"model.depth": 34, "model.residual": False},
    "residual-18": {"model.depth": 18, "model.residual": True},
    "residual-34": {"model.depth": 34, "model.residual": True},
}

PAPER = {
    "eval.protocol": "ten_crop",
}

LAPTOP = {
    "train.num_steps": 400,
    "eval.every_steps": 200,
    "checkpoint.every_steps": 200,
    "record.every_steps": 20,
}

SEEDS = (0, 1, 2, 3, 4, 5, 6, 7)

MEASURES = ("test_error", "training_error", "best_test_error")

CLAIMS = (
    {
        "id": "R1-plain",
        "says": "a plain network of 34 layers has a higher training error than one of 18",
        "source": "He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), figure 4",
        "published": "28.54 - 27.94 = +0.6 points of 10-crop error, and in training error",
        "row": "plain-34",
        "against": "plain-18",
        "measure": "training_error",
        "direction": "higher",
    },
    {
        "id": "R1",
        "says": "a residual network of 34 layers has a lower error than one of 18",
        "source": "He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), table 2",
        "published": "25.03 - 27.88 = -2.85 points",
        "row": "residual-34",
        "against": "residual-18",
        "measure": "test_error",
        "direction": "lower",
        "effect": -2.85,
    },
    {
        "id": "R1-34",
        "says": "at 34 layers the residual network has a lower error than the plain one",
        "source": "He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), table 2",
        "published": "25.03 - 28.54 = -3.5 points",
        "row": "residual-34",
        "against": "plain-34",
        "measure": "test_error",
        "direction": "lower",
        "effect": -3.51,
    },
    {
        "id": "R1-18",
        "says": "at 18 layers they are alike",
        "source": "He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), table 2",
        "published": "27.88 - 27.94 = -0.1 points",
        "row": "residual-18",
        "against": "plain-18",
        "measure": "test_error",
        "direction": "equal",
        "effect": -0.06,
        "margin": 1.0,
    },
)
