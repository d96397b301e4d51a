"""Do shortcuts cure degradation? Does a plain network get worse with depth, in training error too, and a residual not?

He, Zhang, Ren, Sun 2015, section 4.2 and figure 6 (CIFAR-10): the training error of plain networks rises from 20 to 56
layers and plain-110 stays above 60 %; residual networks go from 8.75 % test error (20 layers) to 6.97 % (56) and 6.43 %
(110, the best of 5 runs; 6.61 +- 0.16).

Seen at the laptop scale (seed 0, 800 steps, 2026-11-23), training / evaluation error in percent: residual 24.2 / 22.0,
29.4 / 27.2, 37.1 / 32.3; plain 60.1 / 54.2, 83.9 / 82.9, 89.5 / 90.9. At the paper's scale: not yet run.

Rows: depth 20, 56 and 110, plain and residual (option A, so both have the same parameters).

Command: python -m dnn_research.main --config experiments/residual.py:plain-56,laptop
"""

BASELINE = "configs/resnet110_cifar10.py"

ROWS = {
    "residual-20": {"model.depth": 20, "model.residual": True},
    "residual-56": {"model.depth": 56, "model.residual": True},
    "residual-110": {"model.depth": 110, "model.residual": True},
    "plain-20": {"model.depth": 20, "model.residual": False},
    "plain-56": {"model.depth": 56, "model.residual": False},
    "plain-110": {"model.depth": 110, "model.residual": False},
}

SEEDS = (0,)

CLAIMS = {
    "plain networks degrade with depth": "training loss: plain-20 < plain-56 < plain-110",
    "residual networks do not": "test error: residual-20 > residual-56 > residual-110",
}
