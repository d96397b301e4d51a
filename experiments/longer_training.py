"""Do plain networks degrade only because they were not trained long enough?

He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), section 4.1, footnote 3: three times as many iterations do not cure
plain-34.

Rows: the plain network of 56 layers, the same trained three times as long, the residual one trained once. The laptop
scale: a quarter of the width, 300 and 900 steps of 32 patches.
"""

BASELINE = "configs/resnet110_cifar10.py"

BASELINE_ROW = "plain"

ROWS = {
    "plain": {"model.residual": False},
    "plain-3x": {"model.residual": False, "train.num_steps": 192000, "schedule.boundary_steps": (96000, 144000)},
    "residual": {"model.residual": True},
}

PAPER = {
    "model.depth": 56,
}

LAPTOP = {
    "model.depth": 56,
    "model.width_factor": 0.25,
    "schedule.boundary_steps": (150, 225),
    "train.num_steps": 300,
    "eval.every_steps": 300,
    "checkpoint.every_steps": 300,
    "record.every_steps": 15,
}

LAPTOP_ROWS = {
    "plain-3x": {"model.residual": False, "train.num_steps": 900, "schedule.boundary_steps": (450, 675)},
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
