"""Fine-tuning: a network trained elsewhere learns the flowers of Oxford (102 classes, 10 training images of each).

No paper's recipe, but common practice since Yosinski, Clune, Bengio, Lipson 2014 (arXiv:1411.1792): all layers start
from the trained network, the last one afresh; the trained layers move at a tenth of the new one's rate. Data: Nilsback,
Zisserman 2008, 1,020 training images, evaluated on the 6,149 of the test split.
Which network, and where its weights come from:

    python -m dnn_research.weights import --file resnet50.pth --lineage torchvision --config configs/resnet50.py \
        --workdir runs/resnet50_torchvision
    python -m dnn_research.main --config configs/finetune.py

`checkpoint.init_from` takes any run of this network as well. The network's fields and `data.mean`, `data.std`,
`data.normalization` must be those that it was trained with (`import` prints them). Another network:
--config.model.name=vgg and its fields; fields set to none are not given. Only the new layer:
--config.train.freeze=conv1,bn1,stage*.

`:laptop` fine-tunes the quick start's network (28-pixel digits of MNIST) on 100 digits of 8x8 pixels by other hands,
evaluated on the other 1,697; run configs/quickstart.py first. `:smoke` starts from fresh values.
Reached with this code: `:laptop` see experiments/finetune.py; the flowers: not yet run.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

TRY_NEXT = {
    "its new layer alone": "--config experiments/finetune.py:head,laptop",
    "the same from scratch": "--config experiments/finetune.py:scratch,laptop",
}

LAPTOP = {
    "batch_size": 24,
    "data.source": "tfds:digits",
    "data.train_split": "train[:100]",
    "data.eval_split": "train[100:]+test",
    "data.image_size": 28,
    "data.channels": 1,
    "data.mean": (33.3,),
    "data.std": (78.6,),
    "data.augment.shorter_side": (28, 32),
    "data.augment.flip": False,
    "data.num_workers": 2,
    "model.name": "resnet_cifar",
    "model.depth": 14,
    "model.shortcut": "A",
    "model.stride_in": None,
    "checkpoint.init_from": "runs/quickstart",
    "train.num_steps": 300,
    "eval.resize": 28,
    "eval.batch_size": 250,
    "eval.every_steps": 100,
    "checkpoint.every_steps": 100,
    "record.every_steps": 20,
}


def get_config() -> ConfigDict:
    """The complete recipe."""
    config = ConfigDict()
    config.seed = 0
    config.batch_size = 64

    config.data = ConfigDict()
    config.data.source = "tfds:oxford_flowers102"
    config.data.dir = placeholder(str)
    config.data.train_split = "train"
    config.data.eval_split = "test"
    config.data.holdout_fraction = 0.1
    config.data.holdout_seed = 0
    config.data.damaged = "stop"
    config.data.image_size = 224
    config.data.channels = 3
    config.data.mean = (123.675, 116.28, 103.53)
    config.data.std = (58.395, 57.12, 57.375)
    config.data.normalization = "channel"
    config.data.augment = ConfigDict({
        "central_square": False, "pad": 0, "shorter_side": (256, 320),
        "area": (), "aspect": (3 / 4, 4 / 3), "interpolation": "bilinear", "flip": True,
        "rotation_degrees": 0.0, "vertical_shift": 0.0, "horizontal_shift": 0.0, "zoom": (),
        "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0,
        "randaugment_ops": 0, "randaugment_magnitude": 9.0, "erasing_probability": 0.0, "erasing_area": (0.02, 0.4),
        "pca_noise_std": 0.0, "pca_basis": "imagenet",
        "mixup_alpha": 0.0, "cutmix_alpha": 0.0, "mix_probability": 1.0,
    })  # fmt: skip
    config.data.num_workers = 16
    config.data.synthetic_classes = 102
    config.data.synthetic_examples = 1024

    config.model = ConfigDict()
    config.model.name = "resnet"
    config.model.depth = 50
    config.model.shortcut = "B"
    config.model.stride_in = "3x3"
    config.model.variant = placeholder(str)
    config.model.batch_norm = placeholder(bool)
    config.model.lineage = placeholder(str)
    config.model.activation = placeholder(str)
    config.model.width = placeholder(float)
    config.model.width_factor = placeholder(float)
    config.model.dropout_rate = placeholder(float)
    config.model.num_classes = placeholder(int)
    config.model.scan_blocks = placeholder(bool)
    config.model.remat_blocks = placeholder(bool)

    config.task = ConfigDict()
    config.task.name = "classification"
    config.task.label_smoothing = 0.0

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"
    config.optimizer.momentum = 0.9
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 1e-4
    config.optimizer.weight_decay_mask = "kernels"

    config.schedule = ConfigDict()
    config.schedule.name = "cosine"
    config.schedule.learning_rate = 0.05
    config.schedule.warmup_epochs = placeholder(float)
    config.schedule.warmup_steps = placeholder(int)

    config.train = ConfigDict()
    config.train.num_epochs = 100.0
    config.train.num_steps = placeholder(int)
    config.train.dtype = "float32"
    config.train.batch_norm_axis = placeholder(str)
    config.train.ema_decay = 0.0
    config.train.accumulate_steps = 1
    config.train.clip_norm = placeholder(float)
    config.train.freeze = ()
    config.train.learning_rate_factors = (("fc", 1.0), ("*", 0.1))
    config.train.deterministic = False

    config.eval = ConfigDict()
    config.eval.protocol = "single_crop"
    config.eval.resize = 256
    config.eval.scales = placeholder(tuple)
    config.eval.flip = placeholder(bool)
    config.eval.multiple = placeholder(int)
    config.eval.batch_size = 256
    config.eval.every_epochs = 10.0
    config.eval.every_steps = placeholder(int)

    config.checkpoint = ConfigDict()
    config.checkpoint.every_epochs = 10.0
    config.checkpoint.every_steps = placeholder(int)
    config.checkpoint.keep = 2
    config.checkpoint.best_metric = "eval/top1_accuracy"
    config.checkpoint.init_from = "runs/resnet50_torchvision"
    config.checkpoint.init_exclude = ("fc",)

    config.record = ConfigDict()
    config.record.every_steps = 16
    config.record.images = 64
    config.record.histograms = True
    config.record.confusion_classes = 100
    config.record.profile_steps = ()
    return config
