"""What are Inception modules worth, and what do their reductions cost?

Szegedy et al. 2015 (arXiv:1409.4842), sections 4 and 5: modules of several kernel sizes do as well as plain
convolutions that cost two to three times as much; 1x1 reductions make them affordable. The article says that they do
better, and that reductions cost little accuracy. No number.

Rows: plain 3x3 convolutions of as many features, at three times the multiply-adds, Inception without reductions (the
naive module of figure 2a), Inception with them. The laptop scale: an eighth of the width, batch normalization, 400
steps of 32 patches. No difference means less than 1 point.
"""

BASELINE = "configs/googlenet.py"

BASELINE_ROW = "plain"

ROWS = {
    "plain": {"model.module": "plain"},
    "naive": {"model.reductions": False},
    "inception": {},
}

LAPTOP = {
    "model.width_factor": 0.125,
    "train.num_steps": 400,
    "eval.every_steps": 200,
    "checkpoint.every_steps": 200,
    "record.every_steps": 20,
}

SEEDS = (0, 1, 2, 3, 4, 5, 6)

MEASURES = ("test_error", "training_error", "best_test_error")

CLAIMS = (
    {
        "id": "Inception",
        "says": "Inception modules have a lower error than plain convolutions",
        "source": 'The article "From AlexNet to MobileNet"',
        "published": "no number",
        "row": "inception",
        "against": "plain",
        "measure": "test_error",
        "direction": "lower",
    },
    {
        "id": "Inception-1x1",
        "says": "1x1 reductions make no difference to the error",
        "source": 'The article "From AlexNet to MobileNet"',
        "published": "no number",
        "row": "inception",
        "against": "naive",
        "measure": "test_error",
        "direction": "equal",
        "margin": 1.0,
    },
)
