"""Do bottleneck networks get better from 50 to 152 layers?

He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), table 3, 10-crop top-1 error: ResNet-50 22.85 %, 101 21.75 %, 152 21.43 %.

Rows: 50, 101, 152 layers, by 10 crops at the paper's scale. The laptop scale: an eighth of the width on 32 pixels (they
end as one), 1,500 steps of 32 patches. After 300, as many as a first sweep had, the training error stood at 58 to 65 %.
"""

BASELINE = "configs/resnet50.py"

BASELINE_ROW = "50"

ROWS = {
    "50": {"model.depth": 50},
    "101": {"model.depth": 101},
    "152": {"model.depth": 152},
}

PAPER = {
    "eval.protocol": "ten_crop",
}

LAPTOP = {
    "batch_size": 32,
    "data.source": "tfds:photo_patches/32",
    "data.eval_split": "test",
    "data.image_size": 32,
    "data.augment.shorter_side": (),
    "data.augment.pad": 4,
    "data.augment.pca_noise_std": 0.0,
    "data.num_workers": 2,
    "data.synthetic_classes": 16,
    "model.width_factor": 0.125,
    "schedule.name": "cosine",
    "schedule.factor": None,
    "schedule.metric": None,
    "schedule.patience": None,
    "schedule.boundary_epochs": None,
    "schedule.learning_rate": 0.05,
    "eval.protocol": "original",
    "eval.resize": None,
    "train.num_steps": 1500,
    "eval.every_steps": 500,
    "checkpoint.every_steps": 500,
    "record.every_steps": 75,
}

SEEDS = (0, 1, 2, 3, 4, 5, 6)

MEASURES = ("test_error", "training_error", "best_test_error")

CLAIMS = (
    {
        "id": "R3",
        "says": "101 layers have a lower error than 50",
        "source": "He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), table 3",
        "published": "21.75 - 22.85 = -1.1 points top-1",
        "row": "101",
        "against": "50",
        "measure": "test_error",
        "direction": "lower",
        "effect": -1.1,
    },
    {
        "id": "R3-152",
        "says": "152 layers have a lower error than 101",
        "source": "He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), table 3",
        "published": "21.43 - 21.75 = -0.3 points top-1",
        "row": "152",
        "against": "101",
        "measure": "test_error",
        "direction": "lower",
        "effect": -0.32,
    },
)
