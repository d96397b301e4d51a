"""ResNet-110 on CIFAR-10, by the paper's recipe.

He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), section 4.2: 6n+2 layers with n = 18, shortcuts without parameters
(option A), batch 128, rate 0.1, a tenth of it at 32k and 48k of 64k iterations. The rate starts at 0.01 and rises when
the training error falls below 80 %, which took about 400 iterations: here exactly 400.
Published: 6.43 % error at best, 6.61 +- 0.16 % over 5 runs (table 6).
Other depths: --config.model.depth=20 (8.75 %), 32 (7.51 %), 44 (7.17 %), 56 (6.97 %), 1202 (7.93 %), all but 1202 with
--config.schedule.warmup_steps=none; without shortcuts: --config.model.residual=False.
The mean image is that of the training split, subtracted after the random crop (the paper does not say when).

Command: python -m dnn_research.main --config configs/resnet110_cifar10.py
Reached with this code: not yet run on CIFAR-10. `:laptop` trains on patches of built-in photographs.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

# The same network at half the width on 32-pixel patches of built-in photographs, to say from which picture each is; the
# schedule keeps its proportions (one half, three quarters, whole).
LAPTOP = {
    "batch_size": 32,
    "data.source": "tfds:photo_patches/32",
    "data.normalization": "channel",
    "data.num_workers": 2,
    "data.synthetic_classes": 16,
    "model.width_factor": 0.5,
    "schedule.boundary_steps": (400, 600),
    "schedule.learning_rate": 0.1,
    "schedule.warmup_learning_rate": 0.01,
    "schedule.warmup_steps": 50,
    "train.num_steps": 800,
    "eval.every_steps": 100,
    "checkpoint.every_steps": 100,
    "record.every_steps": 20,
}


def get_config() -> ConfigDict:
    """The complete recipe."""
    config = ConfigDict()
    config.seed = 0
    config.batch_size = 128

    config.data = ConfigDict()
    config.data.source = "tfds:cifar10"
    config.data.dir = placeholder(str)
    config.data.train_split = "train"
    config.data.eval_split = "test"
    config.data.holdout_fraction = 0.1
    config.data.holdout_seed = 0
    config.data.damaged = "stop"
    config.data.image_size = 32
    config.data.channels = 3
    config.data.mean = (125.3, 123.0, 113.9)
    config.data.std = (1.0, 1.0, 1.0)
    config.data.normalization = "pixel_mean"
    config.data.augment = ConfigDict({
        "central_square": False, "pad": 4, "shorter_side": (),
        "area": (), "aspect": (3 / 4, 4 / 3), "interpolation": "bilinear", "flip": True,
        "rotation_degrees": 0.0, "vertical_shift": 0.0, "horizontal_shift": 0.0, "zoom": (),
        "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0,
        "randaugment_ops": 0, "randaugment_magnitude": 9.0, "erasing_probability": 0.0, "erasing_area": (0.02, 0.4),
        "pca_noise_std": 0.0, "pca_basis": "imagenet",
        "mixup_alpha": 0.0, "cutmix_alpha": 0.0, "mix_probability": 1.0,
    })  # fmt: skip
    config.data.num_workers = 4
    config.data.synthetic_classes = 10
    config.data.synthetic_examples = 1024

    config.model = ConfigDict()
    config.model.name = "resnet_cifar"
    config.model.depth = 110
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
    config.optimizer.nesterov = False
    config.optimizer.weight_decay = 1e-4
    config.optimizer.weight_decay_mask = "kernels"

    config.schedule = ConfigDict()
    config.schedule.name = "steps"
    config.schedule.learning_rate = 0.1 * config.get_ref("batch_size") / 128
    config.schedule.factor = 0.1
    config.schedule.boundary_epochs = placeholder(tuple)
    config.schedule.boundary_steps = (32000, 48000)
    config.schedule.metric = placeholder(str)
    config.schedule.patience = placeholder(int)
    config.schedule.warmup_epochs = placeholder(float)
    config.schedule.warmup_steps = 400
    config.schedule.warmup_shape = "constant"
    config.schedule.warmup_learning_rate = 0.01 * config.get_ref("batch_size") / 128

    config.train = ConfigDict()
    config.train.num_epochs = placeholder(float)
    config.train.num_steps = 64000
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
    config.eval.every_epochs = 5.0
    config.eval.every_steps = placeholder(int)

    config.checkpoint = ConfigDict()
    config.checkpoint.every_epochs = 5.0
    config.checkpoint.every_steps = placeholder(int)
    config.checkpoint.keep = 3
    config.checkpoint.best_metric = "eval/top1_accuracy"
    config.checkpoint.init_from = placeholder(str)
    config.checkpoint.init_exclude = ()

    config.record = ConfigDict()
    config.record.every_steps = 100
    config.record.images = 64
    config.record.histograms = True
    config.record.confusion_classes = 100
    config.record.profile_steps = ()
    return config
