"""What do shortcuts do to the layers: how large are their responses, and do gradients reach them?

He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), figure 7: the standard deviations of 3x3 layers' outputs, after batch
normalization, are smaller in residual networks than in plain ones, and smaller the deeper the network. Section 1: a
trained network extended by identities is a deeper one with the same error, so a deeper plain network that does worse
was not found by its training (`extended_error` is that of every network here, extended to 110 layers). Section 4.1:
with batch normalization gradients vanish in neither, which the plots by layer show and no verdict says.

Rows: 20 and 56 layers, residual and plain. The laptop scale: a quarter of the width, 500 steps of 32 patches. Both
depths have the warm-up that the paper gave to 110 layers.
"""

BASELINE = "configs/resnet110_cifar10.py"

BASELINE_ROW = "residual-20"

ROWS = {
    "residual-20": {"model.depth": 20, "model.residual": True},
    "residual-56": {"model.depth": 56, "model.residual": True},
    "plain-20": {"model.depth": 20, "model.residual": False},
    "plain-56": {"model.depth": 56, "model.residual": False},
}

LAPTOP = {
    "model.width_factor": 0.25,
    "schedule.boundary_steps": (250, 375),
    "train.num_steps": 500,
    "eval.every_steps": 500,
    "checkpoint.every_steps": 500,
    "record.every_steps": 25,
}

SEEDS = (0, 1, 2, 3, 4, 5, 6)

MEASURES = (
    "response_std",
    "extended_error",
    "test_error",
    "training_error",
    "gradient_ratio_initial",
    "gradient_ratio_final",
)

CLAIMS = (
    {
        "id": "R5",
        "says": "a residual network's responses are smaller than a plain one's, 56 layers",
        "source": "He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), figure 7",
        "published": "curves",
        "row": "residual-56",
        "against": "plain-56",
        "measure": "response_std",
        "direction": "lower",
    },
    {
        "id": "R5-20",
        "says": "the same with 20 layers",
        "source": "He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), figure 7",
        "published": "curves",
        "row": "residual-20",
        "against": "plain-20",
        "measure": "response_std",
        "direction": "lower",
    },
    {
        "id": "R5-depth",
        "says": "a deeper residual network's responses are smaller",
        "source": "He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), figure 7",
        "published": "curves",
        "row": "residual-56",
        "against": "residual-20",
        "measure": "response_std",
        "direction": "lower",
    },
)
