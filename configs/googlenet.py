r"""GoogLeNet on ImageNet, as near to the paper's recipe as it tells.

Szegedy et al. 2015 (arXiv:1409.4842), table 1 and section 6: asynchronous SGD with momentum 0.9, the rate falls by 4 %
every 8 epochs, the averaged parameters are evaluated, auxiliary classifiers count 0.3 each. Batch, first rate and
weight decay are not in the paper: they are those of Caffe's bvlc_googlenet (32, 0.01, 2e-4), as are the 250 epochs of
its solver with the paper's schedule (its quick solver takes 60, and another schedule).
Published: 10.07 % top-5 error by one crop, 9.15 % by 10, 7.89 % by 144, one network (table 3); 31.3 / 11.1 % top-1 /
top-5 by one crop (bvlc_googlenet, by its quick solver).
By the paper's protocols: python -m dnn_research.tools.evaluate --workdir runs/googlenet --ema \
    --protocols single_crop,ten_crop,googlenet_crops; an ensemble of 7 with as many --workdir.
`:batch_norm` normalizes every convolution; `:torchvision` is that library's network.
Images: crops of 8 to 100 % of the area, 3/4 to 4/3 wide, by a random interpolation, and the photometric distortions of
Howard 2013 (arXiv:1312.5402): factors of brightness, contrast and saturation in [0.5, 1.5], then AlexNet's noise.
Differs from the paper: one synchronous replica; random interpolation from the start instead of late in training.

Command: python -m dnn_research.main --config configs/googlenet.py
Reached with this code: not yet run. `:smoke` runs the same network on a few synthetic images, `:laptop` trains a narrow
one on patches of built-in photographs.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

VARIANTS = {
    "batch_norm": {"model.batch_norm": True},
    "torchvision": {"model.variant": "torchvision"},
}

# A quarter of the width, with batch normalization, on 32-pixel patches of built-in photographs, to say from which
# picture each is.
LAPTOP = {
    "batch_size": 32,
    "data.source": "tfds:photo_patches/32",
    "data.eval_split": "test",
    "data.image_size": 32,
    "data.augment.area": (),
    "data.augment.pad": 4,
    "data.augment.brightness": 0.0,
    "data.augment.contrast": 0.0,
    "data.augment.saturation": 0.0,
    "data.augment.pca_noise_std": 0.0,
    "data.num_workers": 2,
    "data.synthetic_classes": 16,
    "model.batch_norm": True,
    "model.stem": "cifar",
    "model.width_factor": 0.25,
    "model.weight_init": "modern",
    "schedule.name": "cosine",
    "schedule.factor": None,
    "schedule.every_epochs": None,
    "schedule.staircase": None,
    "schedule.learning_rate": 0.05,
    "train.num_steps": 800,
    "train.ema_decay": 0.98,
    "eval.protocol": "original",
    "eval.resize": None,
    "eval.every_steps": 200,
    "checkpoint.every_steps": 200,
    "checkpoint.best_metric": "eval/top1_accuracy",
    "record.every_steps": 20,
}


def get_config() -> ConfigDict:
    """The complete recipe."""
    config = ConfigDict()
    config.seed = 0
    config.batch_size = 32

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
        "central_square": False, "pad": 0, "shorter_side": (),
        "area": (0.08, 1.0), "aspect": (3 / 4, 4 / 3), "interpolation": "random", "flip": True,
        "rotation_degrees": 0.0, "vertical_shift": 0.0, "horizontal_shift": 0.0, "zoom": (),
        "brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.0,
        "randaugment_ops": 0, "randaugment_magnitude": 9.0, "erasing_probability": 0.0, "erasing_area": (0.02, 0.4),
        "pca_noise_std": 0.1, "pca_basis": "imagenet",
        "mixup_alpha": 0.0, "cutmix_alpha": 0.0, "mix_probability": 1.0,
    })  # fmt: skip
    config.data.num_workers = 16
    config.data.synthetic_classes = 1000
    config.data.synthetic_examples = 1024

    config.model = ConfigDict()
    config.model.name = "googlenet"
    config.model.variant = "paper"
    config.model.batch_norm = placeholder(bool)
    config.model.lrn = placeholder(bool)
    config.model.aux_heads = True
    config.model.module = "inception"
    config.model.head = "gap"
    config.model.reductions = True
    config.model.dropout_rate = placeholder(float)
    config.model.aux_dropout_rate = 0.7
    config.model.stem = "imagenet"
    config.model.weight_init = "paper"
    config.model.width_factor = 1.0
    config.model.num_classes = placeholder(int)

    config.task = ConfigDict()
    config.task.name = "classification"
    config.task.label_smoothing = 0.0
    config.task.auxiliary_weight = 0.3

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"
    config.optimizer.momentum = 0.9
    config.optimizer.nesterov = False
    config.optimizer.weight_decay = 2e-4
    config.optimizer.weight_decay_mask = "kernels"

    config.schedule = ConfigDict()
    config.schedule.name = "exponential"
    config.schedule.learning_rate = 0.01 * config.get_ref("batch_size") / 32
    config.schedule.factor = 0.96
    config.schedule.every_epochs = 8.0
    config.schedule.every_steps = placeholder(int)
    config.schedule.staircase = True
    config.schedule.metric = placeholder(str)
    config.schedule.patience = placeholder(int)
    config.schedule.warmup_epochs = placeholder(float)
    config.schedule.warmup_steps = placeholder(int)

    config.train = ConfigDict()
    config.train.num_epochs = 250.0
    config.train.num_steps = placeholder(int)
    config.train.dtype = "float32"
    config.train.batch_norm_axis = placeholder(str)
    config.train.ema_decay = 0.9999
    config.train.accumulate_steps = 1
    config.train.clip_norm = placeholder(float)
    config.train.freeze = ()
    config.train.learning_rate_factors = ()
    config.train.deterministic = False

    config.eval = ConfigDict()
    config.eval.protocol = "single_crop"
    config.eval.resize = 256
    config.eval.scales = placeholder(tuple)
    config.eval.flip = placeholder(bool)
    config.eval.multiple = placeholder(int)
    config.eval.batch_size = 256
    config.eval.every_epochs = 1.0
    config.eval.every_steps = placeholder(int)

    config.checkpoint = ConfigDict()
    config.checkpoint.every_epochs = 1.0
    config.checkpoint.every_steps = placeholder(int)
    config.checkpoint.keep = 3
    config.checkpoint.best_metric = "eval_ema/top1_accuracy"
    config.checkpoint.init_from = placeholder(str)
    config.checkpoint.init_exclude = ()

    config.record = ConfigDict()
    config.record.every_steps = 100
    config.record.images = 64
    config.record.histograms = True
    config.record.confusion_classes = 100
    config.record.profile_steps = ()
    return config
