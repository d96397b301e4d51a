"""How does MobileNet stand beside the networks before it?

Howard et al. 2017 (arXiv:1704.04861), tables 8 and 9, top-1 accuracy: MobileNet 70.6 % (569 M multiply-adds, 4.2 M
parameters), GoogLeNet 69.8 % (1,550 M, 6.8 M), VGG-16 71.5 % (15,300 M, 138 M), AlexNet 57.2 % (720 M, 60 M); half the
width at 160 pixels 60.2 % (76 M, 1.32 M) beside SqueezeNet's 57.5 % (1,700 M, 1.25 M), which is not built here.

Rows: MobileNet, the small one, GoogLeNet, VGG-16 and AlexNet under one recipe, MobileNet's; the initial values are each
network's modern ones where it has them. Only on ImageNet: not yet run.
"""

BASELINE = "configs/mobilenet.py"

BASELINE_ROW = "mobilenet"

ROWS = {
    "mobilenet": {"model.weight_init": "modern"},
    "mobilenet-0.5-160": {
        "model.width": 0.5,
        "data.image_size": 160,
        "data.augment.shorter_side": (183, 229),
        "eval.resize": 183,
        "model.weight_init": "modern",
    },
    "googlenet": {
        "model.name": "googlenet",
        "model.width": None,
        "model.separable": None,
        "model.shallow": None,
        "model.activation": None,
        "model.lineage": None,
        "model.dropout_rate": 0.4,
        "model.stem": "imagenet",
        "model.weight_init": "modern",
    },
    "vgg16": {
        "model.name": "vgg",
        "model.width": None,
        "model.separable": None,
        "model.shallow": None,
        "model.activation": None,
        "model.lineage": None,
        "model.stem": None,
        "model.dropout_rate": 0.5,
        "model.weight_init": "modern",
    },
    "alexnet": {
        "model.name": "alexnet",
        "model.width": None,
        "model.separable": None,
        "model.shallow": None,
        "model.lineage": None,
        "model.activation": "relu",
        "model.dropout_rate": 0.5,
        "model.stem": "imagenet",
        "model.weight_init": "modern",
    },
}

SEEDS = (0, 1, 2, 3, 4, 5, 6)

MEASURES = ("test_error", "training_error", "best_test_error")

CLAIMS = (
    {
        "id": "M5-GoogLeNet",
        "says": "MobileNet has a lower error than GoogLeNet",
        "source": "Howard et al. 2017 (arXiv:1704.04861), table 8",
        "published": "70.6 - 69.8: -0.8 points top-1",
        "row": "mobilenet",
        "against": "googlenet",
        "measure": "test_error",
        "direction": "lower",
        "effect": -0.8,
    },
    {
        "id": "M5-VGG",
        "says": "VGG-16 has a lower error than MobileNet",
        "source": "Howard et al. 2017 (arXiv:1704.04861), table 8",
        "published": "71.5 - 70.6: -0.9 points top-1",
        "row": "vgg16",
        "against": "mobilenet",
        "measure": "test_error",
        "direction": "lower",
        "effect": -0.9,
    },
    {
        "id": "M5-AlexNet",
        "says": "MobileNet of half the width at 160 pixels has a lower error than AlexNet",
        "source": "Howard et al. 2017 (arXiv:1704.04861), table 9",
        "published": "60.2 - 57.2: -3.0 points top-1",
        "row": "mobilenet-0.5-160",
        "against": "alexnet",
        "measure": "test_error",
        "direction": "lower",
        "effect": -3.0,
    },
)
