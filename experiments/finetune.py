"""What is a trained network worth to one that has 100 training images?

Yosinski, Clune, Bengio, Lipson 2014 (arXiv:1411.1792): starting from trained layers helps even after fine-tuning all
of them; the features of the first layers are general, those of the last are not.

Rows: from scratch; all layers from the trained network and moved at one rate; the trained ones at a tenth of the new
one's; the new layer alone (batch normalization keeps its running statistics). Same images, order and augmentation for
all rows of a seed.

Command: python -m dnn_research.main --config experiments/finetune.py:all,laptop
(`:laptop` starts from the quick start's network: run configs/quickstart.py first.)
"""

BASELINE = "configs/finetune.py"

BASELINE_ROW = "scratch"

ROWS = {
    "scratch": {"checkpoint.init_from": None, "checkpoint.init_exclude": (), "train.learning_rate_factors": ()},
    "all": {"train.learning_rate_factors": ()},
    "tenth": {},
    "head": {"train.learning_rate_factors": (), "train.freeze": ("conv1", "bn1", "stage*")},
}

# The recipe's own.
LAPTOP = {}

SEEDS = (0, 1, 2, 3, 4, 5, 6)

MEASURES = ("test_error", "training_error", "best_test_error")

CLAIMS = (
    {
        "id": "transfer",
        "says": "a trained network helps one that has 100 images",
        "source": "Yosinski, Clune, Bengio, Lipson 2014 (arXiv:1411.1792)",
        "published": "curves on ImageNet",
        "row": "all",
        "against": "scratch",
        "measure": "test_error",
        "direction": "lower",
    },
)
