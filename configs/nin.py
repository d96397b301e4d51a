"""Network in Network on CIFAR-10, by the author's recipe; the other data sets by a word.

Lin, Chen, Yan 2014 (arXiv:1312.4400); layer sizes and constants from the author's cuda-convnet definitions: batch 128,
momentum 0.9, rate 0.1, weight decay 1e-4 on kernels, 200 epochs and 30 more at each of two tenths of the rate.
Published error: CIFAR-10 10.41 % (8.81 % with shifts and flips), CIFAR-100 35.68 %, SVHN 2.35 %, MNIST 0.47 %; the
Caffe zoo's ImageNet network 40.64 % top-1 by one crop.
`:cifar100`, `:svhn`, `:mnist`, `:imagenet` choose data and network. Augmentation: --config.data.augment.pad=4
--config.data.augment.flip=True.
CIFAR: global contrast normalization and ZCA whitening as in maxout networks (pylearn2), computed once for a run.
Differs from the paper: mean and standard deviation of each channel (ImageNet: the mean) on the other data sets, SVHN
without local contrast normalization; the author's doubled rate of biases and tenfold smaller rate of the last layer are
left out.

Command: python -m dnn_research.main --config configs/nin.py
Reached with this code: not yet run on these. `:laptop` trains a narrow one on patches of built-in photographs.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

VARIANTS = {
    "cifar100": {
        "model.variant": "cifar100",
        "data.source": "tfds:cifar100",
        "data.mean": (129.3, 124.1, 112.4),
        "data.synthetic_classes": 100,
        "optimizer.weight_decay": 5e-4,
        "schedule.learning_rate": 0.02,
    },
    "svhn": {
        "model.variant": "svhn",
        "data.source": "tfds:svhn_cropped",
        "data.normalization": "channel",
        "data.mean": (111.6, 113.2, 120.6),
        "data.std": (50.5, 51.3, 50.2),
    },
    "mnist": {
        "model.variant": "mnist",
        "data.source": "tfds:mnist",
        "data.image_size": 28,
        "data.channels": 1,
        "data.normalization": "channel",
        "data.mean": (33.3,),
        "data.std": (78.6,),
    },
    "imagenet": {
        "model.variant": "imagenet",
        "batch_size": 64,
        "data.source": "tfds:imagenet2012",
        "data.eval_split": "validation",
        "data.image_size": 224,
        "data.normalization": "channel",
        "data.mean": (123.68, 116.779, 103.939),
        "data.std": (1.0, 1.0, 1.0),
        "data.augment.shorter_side": (256, 256),
        "data.augment.flip": True,
        "data.num_workers": 16,
        "data.synthetic_classes": 1000,
        "optimizer.weight_decay": 5e-4,
        "schedule.learning_rate": 0.01,
        "schedule.boundary_steps": (200000, 400000),
        "train.num_steps": 450000,
        "eval.protocol": "single_crop",
        "eval.resize": 256,
        "eval.every_epochs": 1.0,
        "checkpoint.every_epochs": 1.0,
    },
}

# A third of the width on 32-pixel patches of built-in photographs, to say from which picture each is. The author's
# initial values are for his widths. Whitened patches lose the brightness and contrast that tell textures apart. At a
# rate of 0.02 networks without mlpconv or with a fully connected head stay at chance from most seeds.
LAPTOP = {
    "batch_size": 32,
    "data.source": "tfds:photo_patches/32",
    "data.normalization": "channel",
    "data.std": (63.0, 62.1, 66.7),
    "data.augment.pad": 4,
    "data.augment.flip": True,
    "data.num_workers": 2,
    "data.synthetic_classes": 16,
    "model.width_factor": 0.33,
    "model.weight_init": "modern",
    "schedule.name": "cosine",
    "schedule.factor": None,
    "schedule.boundary_epochs": None,
    "schedule.learning_rate": 0.005,
    "train.num_steps": 800,
    "eval.every_steps": 200,
    "checkpoint.every_steps": 200,
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
    config.data.normalization = "gcn_zca"
    config.data.augment = ConfigDict({
        "central_square": False, "pad": 0, "shorter_side": (),
        "area": (), "aspect": (3 / 4, 4 / 3), "interpolation": "bilinear", "flip": False,
        "rotation_degrees": 0.0, "vertical_shift": 0.0, "horizontal_shift": 0.0, "zoom": (),
        "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0,
        "randaugment_ops": 0, "randaugment_magnitude": 9.0, "erasing_probability": 0.0, "erasing_area": (0.02, 0.4),
        "pca_noise_std": 0.0, "pca_basis": "imagenet",
        "mixup_alpha": 0.0, "cutmix_alpha": 0.0, "mix_probability": 1.0,
    })  # fmt: skip
    config.data.num_workers = 16
    config.data.synthetic_classes = 10
    config.data.synthetic_examples = 1024

    config.model = ConfigDict()
    config.model.name = "nin"
    config.model.variant = "cifar10"
    config.model.mlpconv = True
    config.model.head = "gap"
    config.model.dropout_rate = 0.5
    config.model.fc_dropout_rate = 0.0
    config.model.weight_init = "paper"
    config.model.width_factor = 1.0
    config.model.num_classes = placeholder(int)

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
    config.schedule.boundary_epochs = (200, 230)
    config.schedule.boundary_steps = placeholder(tuple)
    config.schedule.metric = placeholder(str)
    config.schedule.patience = placeholder(int)
    config.schedule.warmup_epochs = placeholder(float)
    config.schedule.warmup_steps = placeholder(int)

    config.train = ConfigDict()
    config.train.num_epochs = 260.0
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
