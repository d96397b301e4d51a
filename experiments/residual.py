"""Do shortcuts cure degradation? Does a plain network get worse with depth, in training error too, and a residual not?

He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), section 4.2 and figure 6 (CIFAR-10): the training error of plain networks
rises from 20 to 56 layers and plain-110 stays above 60 %; residual networks go from 8.75 % test error (20 layers) to
6.97 % (56) and 6.43 % (110, the best of 5 runs; 6.61 +- 0.16). Figure 7 and section 4.1, the responses of layers and
the gradients that reach them: `layer_responses`.

Rows: depth 20, 56 and 110, plain and residual (option A, so both have the same parameters). The laptop scale: a quarter
of the width, 700 steps of 32 patches. All depths have the warm-up that the paper gave to 110 layers.
"""

BASELINE = "configs/resnet110_cifar10.py"

BASELINE_ROW = "residual-20"

ROWS = {
    "residual-20": {"model.depth": 20, "model.residual": True},
    "residual-56": {"model.depth": 56, "model.residual": True},
    "residual-110": {"model.depth": 110, "model.residual": True},
    "plain-20": {"model.depth": 20, "model.residual": False},
    "plain-56": {"model.depth": 56, "model.residual": False},
    "plain-110": {"model.depth": 110, "model.residual": False},
}

LAPTOP = {
    "model.width_factor": 0.25,
    "schedule.boundary_steps": (350, 525),
    "train.num_steps": 700,
    "eval.every_steps": 350,
    "checkpoint.every_steps": 350,
    "record.every_steps": 35,
}

SEEDS = (0, 1, 2, 3, 4, 5, 6, 7)

MEASURES = ("test_error", "training_error", "best_test_error")

CLAIMS = (
    {
        "id": "R4-plain",
        "says": "plain networks get worse from 20 to 56 layers, in training error",
        "source": "He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), figure 6",
        "published": "no table",
        "row": "plain-56",
        "against": "plain-20",
        "measure": "training_error",
        "direction": "higher",
    },
    {
        "id": "R4-plain-110",
        "says": "and from 56 to 110",
        "source": "He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), section 4.2",
        "published": "plain-110 above 60 % error",
        "row": "plain-110",
        "against": "plain-56",
        "measure": "training_error",
        "direction": "higher",
    },
    {
        "id": "R4-56",
        "says": "at 56 layers a residual network has a lower training error than a plain one",
        "source": "He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), figure 6",
        "published": "no table",
        "row": "residual-56",
        "against": "plain-56",
        "measure": "training_error",
        "direction": "lower",
    },
    {
        "id": "R4-110",
        "says": "at 110 layers too",
        "source": "He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), figure 6",
        "published": "no table",
        "row": "residual-110",
        "against": "plain-110",
        "measure": "training_error",
        "direction": "lower",
    },
    {
        "id": "R4",
        "says": "residual networks get better from 20 to 56 layers",
        "source": "He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), table 6",
        "published": "6.97 - 8.75 = -1.8 points",
        "row": "residual-56",
        "against": "residual-20",
        "measure": "test_error",
        "direction": "lower",
        "effect": -1.78,
    },
    {
        "id": "R4-deep",
        "says": "and from 56 to 110",
        "source": "He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), table 6",
        "published": "6.61 - 6.97 = -0.4 points (mean of 5 runs)",
        "row": "residual-110",
        "against": "residual-56",
        "measure": "test_error",
        "direction": "lower",
        "effect": -0.36,
    },
)
