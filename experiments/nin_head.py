"""Is global average pooling a better head than a fully connected layer?

Lin, Chen, Yan 2014 (arXiv:1312.4400), table 5, from memory: NIN on CIFAR-10 has an error of 11.59 % with a fully
connected head, 10.88 % with dropout before it, 10.41 % with global average pooling; on a plain network pooling (16.46
%) lies between the fully connected heads without (17.56 %) and with dropout (15.99 %).

Rows: fully connected, the same with dropout, global average pooling. The laptop scale: a third of the width, 1,200
steps; patches are shifted and mirrored, as CIFAR is not. A first sweep of 600 steps at a rate of 0.02 left twelve of
the fourteen fully connected networks at chance; the laptop recipe has 0.005 since.
"""

BASELINE = "configs/nin.py"

BASELINE_ROW = "fc"

ROWS = {
    "fc": {"model.head": "fc"},
    "fc-dropout": {"model.head": "fc", "model.fc_dropout_rate": 0.5},
    "gap": {"model.head": "gap"},
}

LAPTOP = {
    "train.num_steps": 1200,
    "eval.every_steps": 600,
    "checkpoint.every_steps": 600,
    "record.every_steps": 30,
}

SEEDS = (0, 1, 2, 3, 4, 5, 6)

MEASURES = ("test_error", "training_error", "best_test_error")

CLAIMS = (
    {
        "id": "N3",
        "says": "global average pooling has a lower error than a fully connected layer",
        "source": "Lin, Chen, Yan 2014 (arXiv:1312.4400), table 5 (from memory)",
        "published": "10.41 - 11.59 = -1.2 points",
        "row": "gap",
        "against": "fc",
        "measure": "test_error",
        "direction": "lower",
        "effect": -1.18,
    },
    {
        "id": "N3-dropout",
        "says": "also than one with dropout",
        "source": "Lin, Chen, Yan 2014 (arXiv:1312.4400), table 5 (from memory)",
        "published": "10.41 - 10.88 = -0.5 points",
        "row": "gap",
        "against": "fc-dropout",
        "measure": "test_error",
        "direction": "lower",
        "effect": -0.47,
    },
)
