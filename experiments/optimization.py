"""How far does one pass through a network come, measured by the optimization that it replaces?

Johnson, Alahi, Fei-Fei 2016 (arXiv:1603.08155), section 4.1: over 50 photographs at 256 pixels the networks reach the
loss of about 50 to 100 iterations of L-BFGS; table 1: a pass takes 0.015 s, 100 iterations 3.17 s.

Rows: the network, and 10, 50 and 200 iterations from the photograph; they train nothing, and a run's seed does not
change them. The laptop scale: pytorch/examples' network at half its width, 1,500 steps of two 96-pixel crops of
thirteen built-in photographs; evaluated on the middle 96 pixels of three others, at 192 pixels. What pass and iteration
take: python -m dnn_research.tools.stylize with --measure, and with --method optimize.
"""

BASELINE = "configs/style_transfer.py"

BASELINE_ROW = "network"

ROWS = {
    "network": {"task.evaluate_iterations": 0},
    "iterations-10": {"task.evaluate_iterations": 10},
    "iterations-50": {"task.evaluate_iterations": 50},
    "iterations-200": {"task.evaluate_iterations": 200},
}

PAPER = {
    "data.eval_split": "validation[:50]",
}

LAPTOP = {
    "data.image_size": 96,
    "data.augment.shorter_side": (96, 240),
    "train.num_steps": 1500,
    "eval.resize": 192,
    "eval.every_steps": 500,
    "checkpoint.every_steps": 500,
}

SEEDS = (0, 1, 2, 3, 4, 5, 6)

MEASURES = ("test_loss", "style_loss", "content_loss")

CLAIMS = (
    {
        "id": "S4",
        "says": "after 50 iterations the loss is still higher than the network's",
        "source": "Johnson, Alahi, Fei-Fei 2016 (arXiv:1603.08155), section 4.1",
        "published": "the network's loss is that of 50 to 100 iterations",
        "row": "iterations-50",
        "against": "network",
        "measure": "test_loss",
        "direction": "higher",
    },
    {
        "id": "S4-200",
        "says": "more iterations reach a lower loss than the network",
        "source": "Johnson, Alahi, Fei-Fei 2016 (arXiv:1603.08155), figure 5",
        "published": "curves",
        "row": "iterations-200",
        "against": "network",
        "measure": "test_loss",
        "direction": "lower",
    },
)
