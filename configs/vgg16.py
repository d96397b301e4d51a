r"""VGG-16 on ImageNet, by the paper's recipe; the other depths by a word.

Simonyan, Zisserman 2015 (arXiv:1409.1556), table 1 and section 3.1: 3x3 convolutions, batch 256, momentum 0.9, weight
decay 5e-4, dropout, rate 0.01 and a tenth of it whenever the validation accuracy stalls, three times, 74 epochs; the
shorter side is random in [256, 512] (section 3.1's scale jitter).
Published, dense evaluation at one scale (table 3), top-1 / top-5 error: D 25.6 / 8.1 %, E 25.5 / 8.0 %, C 27.3 / 8.8 %
(trained with scale jitter); A 29.6 / 10.4 %, A-LRN 29.7 / 10.5 %, B 28.7 / 9.9 % (shorter side 256).
`:A`, `:A-LRN`, `:B`, `:B-5x5`, `:C`, `:E` choose the network; --config.model.batch_norm=True normalizes.
By the paper's protocols (tables 3 to 5): python -m dnn_research.tools.evaluate --workdir runs/vgg16 \
    --protocols "dense(scales=(384,)),dense,vgg_crops,dense_and_crops"; several networks with as many --workdir.
Differs from the paper: jitter from the start instead of from a network trained at 384; Glorot's initial values, which
the paper found to do without a trained A (--config.model.weight_init=paper has N(0, 0.01)); the rate falls by the rule
of the schedule `plateau` instead of by hand.

Command: python -m dnn_research.main --config configs/vgg16.py
Reached with this code: not yet run. `:smoke` runs the same network on a few synthetic images, `:laptop` trains a narrow
one on patches of built-in photographs.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

# Trained at one scale, and tested at the three about it (table 4).
AT_256 = {"data.augment.shorter_side": (256, 256), "eval.scales": (224, 256, 288)}

VARIANTS = {
    "A": {"model.variant": "A", **AT_256},
    "A-LRN": {"model.variant": "A-LRN", **AT_256},
    "B": {"model.variant": "B", **AT_256},
    "B-5x5": {"model.variant": "B-5x5", **AT_256},
    "C": {"model.variant": "C"},
    "E": {"model.variant": "E"},
}

# An eighth of the width on 32-pixel patches of built-in photographs, to say from which picture each is; He's initial
# values, without which the deeper networks do not move in so few steps.
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
    "model.image_size": 32,
    "model.width_factor": 0.125,
    "model.weight_init": "modern",
    "schedule.learning_rate": 0.01,
    "schedule.name": "cosine",
    "schedule.factor": None,
    "schedule.metric": None,
    "schedule.patience": None,
    "schedule.min_scale": None,
    "train.num_steps": 800,
    "eval.protocol": "original",
    "eval.resize": None,
    "eval.scales": None,
    "eval.every_steps": 200,
    "checkpoint.every_steps": 200,
    "record.every_steps": 20,
}


def get_config() -> ConfigDict:
    """The complete recipe."""
    config = ConfigDict()
    config.seed = 0
    config.batch_size = 256

    config.data = ConfigDict()
    config.data.source = "tfds:imagenet2012"
    config.data.dir = placeholder(str)
    config.data.train_split = "train"
    config.data.eval_split = "validation"
    config.data.holdout_fraction = 0.1
    config.data.holdout_seed = 0
    config.data.damaged = "stop"
    config.data.image_size = 224
    config.data.channels = 3
    config.data.mean = (123.68, 116.779, 103.939)
    config.data.std = (1.0, 1.0, 1.0)
    config.data.normalization = "channel"
    config.data.augment = ConfigDict({
        "central_square": False, "pad": 0, "shorter_side": (256, 512),
        "area": (), "aspect": (3 / 4, 4 / 3), "interpolation": "bilinear", "flip": True,
        "rotation_degrees": 0.0, "vertical_shift": 0.0, "horizontal_shift": 0.0, "zoom": (),
        "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0,
        "randaugment_ops": 0, "randaugment_magnitude": 9.0, "erasing_probability": 0.0, "erasing_area": (0.02, 0.4),
        "pca_noise_std": 0.1, "pca_basis": "imagenet",
        "mixup_alpha": 0.0, "cutmix_alpha": 0.0, "mix_probability": 1.0,
    })  # fmt: skip
    config.data.num_workers = 16
    config.data.synthetic_classes = 1000
    config.data.synthetic_examples = 1024

    config.model = ConfigDict()
    config.model.name = "vgg"
    config.model.variant = "D"
    config.model.batch_norm = False
    config.model.fully_convolutional = False
    config.model.image_size = 224
    config.model.pooling = "max"
    config.model.dropout_rate = 0.5
    config.model.weight_init = "glorot"
    config.model.width_factor = 1.0
    config.model.num_classes = placeholder(int)

    config.task = ConfigDict()
    config.task.name = "classification"
    config.task.label_smoothing = 0.0

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"
    config.optimizer.momentum = 0.9
    config.optimizer.nesterov = False
    config.optimizer.weight_decay = 5e-4
    config.optimizer.weight_decay_mask = "all"

    config.schedule = ConfigDict()
    config.schedule.name = "plateau"
    config.schedule.learning_rate = 0.01 * config.get_ref("batch_size") / 256
    config.schedule.factor = 0.1
    config.schedule.boundary_epochs = placeholder(tuple)
    config.schedule.boundary_steps = placeholder(tuple)
    config.schedule.metric = "eval/top1_accuracy"
    config.schedule.patience = 5
    config.schedule.min_scale = 1e-3
    config.schedule.warmup_epochs = placeholder(float)
    config.schedule.warmup_steps = placeholder(int)

    config.train = ConfigDict()
    config.train.num_epochs = 74.0
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
    config.eval.protocol = "single_crop"
    config.eval.resize = 256
    config.eval.scales = (256, 384, 512)
    config.eval.flip = placeholder(bool)
    config.eval.multiple = placeholder(int)
    config.eval.batch_size = 64
    config.eval.every_epochs = 1.0
    config.eval.every_steps = placeholder(int)

    config.checkpoint = ConfigDict()
    config.checkpoint.every_epochs = 1.0
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
