"""AlexNet on ImageNet, by the paper's recipe.

Krizhevsky, Sutskever, Hinton 2012 ("ImageNet Classification with Deep Convolutional Neural Networks"), sections 3 to 5:
five convolutions in two groups, local response normalization, overlapping pooling, dropout; batch 128, momentum 0.9,
weight decay 5e-4, rate 0.01 and a tenth of it whenever the validation error stalls, three times, about 90 epochs.
Published: top-1 / top-5 error 40.7 / 18.2 % on the validation set by 10 crops (table 2), one network.
`:caffe`, `:caffenet`, `:torchvision`, `:half`, `:ungrouped` are later builds and the paper's one-GPU control.
By the paper's protocol: python -m dnn_research.tools.evaluate --workdir runs/alexnet --protocols ten_crop
On two devices as in 2012: --config.model.towers=2.
Differs from the paper: evaluation in training by one crop; the mean is subtracted per channel instead of per pixel,
which takes a pass over the training images first (--config.data.normalization=pixel_mean); colour noise along the
published components of ImageNet (--config.data.augment.pca_basis=train computes them); the rate falls by the rule of
the schedule `plateau` instead of by hand. A 227-pixel crop (--config.data.image_size=227) is Caffe's.

Command: python -m dnn_research.main --config configs/alexnet.py
Reached with this code: not yet run. `:smoke` runs the same network on a few synthetic images, `:laptop` trains a narrow
one on patches of built-in photographs.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

VARIANTS = {
    "half": {"model.variant": "half"},
    "ungrouped": {"model.variant": "ungrouped"},
    "caffe": {"model.variant": "caffe", "data.image_size": 227},
    "caffenet": {"model.variant": "caffenet", "data.image_size": 227},
    "torchvision": {"model.variant": "torchvision"},
}

# A quarter of the width on 32-pixel patches of built-in photographs, to say from which picture each is. He's initial
# values need pixels of unit spread: from those of the paper's recipe, up to 150, the network hardly moves in so few
# steps.
LAPTOP = {
    "batch_size": 64,
    "data.source": "tfds:photo_patches/32",
    "data.eval_split": "test",
    "data.image_size": 32,
    "data.std": (58.0, 57.0, 57.0),
    "data.augment.central_square": False,
    "data.augment.shorter_side": (),
    "data.augment.pad": 4,
    "data.num_workers": 2,
    "data.synthetic_classes": 16,
    "model.stem": "cifar",
    "model.weight_init": "modern",
    "model.width_factor": 0.25,
    "schedule.name": "cosine",
    "schedule.learning_rate": 0.02,
    "schedule.factor": None,
    "schedule.metric": None,
    "schedule.patience": None,
    "schedule.min_scale": None,
    "train.num_steps": 400,
    "eval.protocol": "original",
    "eval.resize": None,
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
        "central_square": True, "pad": 0, "shorter_side": (256, 256),
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
    config.model.name = "alexnet"
    config.model.variant = "paper"
    config.model.lrn = placeholder(bool)
    config.model.lrn_place = placeholder(str)
    config.model.lrn_size = 5
    config.model.lrn_k = placeholder(float)
    config.model.lrn_alpha = 1e-4
    config.model.lrn_beta = 0.75
    config.model.lrn_scaling = placeholder(str)
    config.model.lrn_across_towers = placeholder(bool)
    config.model.overlapping_pooling = True
    config.model.left_out = ()
    config.model.activation = "relu"
    config.model.dropout_rate = 0.5
    config.model.stem = "imagenet"
    config.model.weight_init = "paper"
    config.model.towers = 1
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
    config.schedule.learning_rate = 0.01 * config.get_ref("batch_size") / 128
    config.schedule.factor = 0.1
    config.schedule.boundary_epochs = placeholder(tuple)
    config.schedule.boundary_steps = placeholder(tuple)
    config.schedule.metric = "eval/top1_accuracy"
    config.schedule.patience = 5
    config.schedule.min_scale = 1e-3
    config.schedule.warmup_epochs = placeholder(float)
    config.schedule.warmup_steps = placeholder(int)

    config.train = ConfigDict()
    config.train.num_epochs = 90.0
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
