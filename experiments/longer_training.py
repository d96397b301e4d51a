"""Do plain networks degrade only because they were not trained long enough?

He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), section 4.1, footnote 3: three times as many iterations do not cure
plain-34.

Rows: the plain network of 34 layers, the same trained three times as long, the residual one trained once. The laptop
scale: a quarter of the width on 32 pixels (they end as one), 400 and 1,200 steps of 32 patches.
"""

BASELINE = "configs/resnet34.py"

BASELINE_ROW = "plain"

ROWS = {
    "plain": {"model.residual": False},
    "plain-3x": {"model.residual": False, "train.num_epochs": 270.0, "schedule.boundary_epochs": (90, 180)},
    "residual": {"model.residual": True},
}

LAPTOP = {
    "train.num_steps": 400,
    "eval.every_steps": 400,
    "checkpoint.every_steps": 400,
    "record.every_steps": 20,
}

LAPTOP_ROWS = {
    "plain-3x": {"model.residual": False, "train.num_steps": 1200},
}

SEEDS = (0, 1, 2, 3, 4, 5)

MEASURES = ("test_error", "training_error", "best_test_error")

CLAIMS = (
    {
        "id": "R6",
        "says": ("a plain network trained three times as long still has a higher training error than a residual one"),
        "source": "He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), section 4.1",
        "published": "no number",
        "row": "plain-3x",
        "against": "residual",
        "measure": "training_error",
        "direction": "higher",
    },
)
