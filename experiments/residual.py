"""Do shortcuts cure degradation? Does a plain network get worse with depth, in training error too, and a residual not?

He, Zhang, Ren, Sun 2015, section 4.2 and figure 6 (CIFAR-10): the training error of plain networks rises from 20 to 56
layers and plain-110 stays above 60 %; residual networks go from 8.75 % test error (20 layers) to 6.97 % (56) and 6.43 %
(110, the best of 5 runs; 6.61 +- 0.16). Figure 7: the responses of residual networks are smaller than those of plain
ones, and smaller the deeper they are. Section 4.1: gradients do not vanish in either.

Rows: depth 20, 56 and 110, plain and residual (option A, so both have the same parameters). The laptop scale: a quarter
of the width, 1,200 steps of 32 patches of photographs.
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
    "schedule.boundary_steps": (600, 900),
    "train.num_steps": 1200,
    "eval.every_steps": 300,
    "checkpoint.every_steps": 300,
    "record.every_steps": 30,
}

SEEDS = (0, 1, 2, 3, 4, 5, 6, 7, 8)

MEASURES = (
    "test_error", "training_error", "best_test_error", "response_std", "gradient_ratio_initial", "gradient_ratio_final",
)  # fmt: skip

CLAIMS = ()
