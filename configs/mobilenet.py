"""MobileNet on ImageNet, as near to the paper's recipe as it tells.

Howard et al. 2017 (arXiv:1704.04861), table 1 and section 3.2: RMSProp "as Inception V3", little or no weight decay on
depthwise kernels, less augmentation than for large networks. The constants are Inception v3's: decay 0.9, epsilon 1,
momentum 0.9, rate 0.045 falling by 6 % every 2 epochs, gradients clipped at a norm of 2, averaged parameters; weight
decay 4e-5 is tf-slim's.
Published top-1 accuracy: 70.6 % (width 1.0, 224 pixels), 68.4 (0.75), 63.7 (0.5), 50.6 (0.25); 69.1, 67.2, 64.4 % at
192, 160, 128 pixels; 71.7 % with full convolutions, 65.3 % shallow (tables 4 to 7).
Other forms: --config.model.width=0.5, `:192`, `:160`, `:128` (crops in proportion), `:fullconv`, `:shallow`.
Differs from the paper: synchronous steps of 128 images instead of asynchronous ones of 32; crops of images with the
shorter side in [256, 320]; weight decay leaves depthwise kernels out.

Command: python -m dnn_research.main --config configs/mobilenet.py
Reached with this code: not yet run. `:smoke` runs the same network on a few synthetic images, `:laptop` trains a narrow
one on patches of built-in photographs.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

VARIANTS = {
    "fullconv": {"model.separable": False},
    "shallow": {"model.shallow": True},
    "192": {"data.image_size": 192, "data.augment.shorter_side": (219, 274), "eval.resize": 219},
    "160": {"data.image_size": 160, "data.augment.shorter_side": (183, 229), "eval.resize": 183},
    "128": {"data.image_size": 128, "data.augment.shorter_side": (146, 183), "eval.resize": 146},
}

# A quarter of the width on 32-pixel patches of built-in photographs, to say from which picture each is; batch
# normalization whose running statistics keep up with so few steps.
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
    "model.width": 0.25,
    "model.lineage": "torch",
    "model.stem": "cifar",
    "schedule.name": "cosine",
    "schedule.factor": None,
    "schedule.every_epochs": None,
    "schedule.staircase": None,
    "schedule.learning_rate": 0.05,
    "train.num_steps": 400,
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
    config.data.mean = (127.5, 127.5, 127.5)
    config.data.std = (127.5, 127.5, 127.5)
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
    config.data.synthetic_classes = 1000
    config.data.synthetic_examples = 1024

    config.model = ConfigDict()
    config.model.name = "mobilenet"
    config.model.width = 1.0
    config.model.separable = True
    config.model.shallow = False
    config.model.activation = "relu"
    config.model.lineage = "paper"
    config.model.dropout_rate = 0.0
    config.model.stem = "imagenet"
    config.model.weight_init = "paper"
    config.model.num_classes = placeholder(int)

    config.task = ConfigDict()
    config.task.name = "classification"
    config.task.label_smoothing = 0.0

    config.optimizer = ConfigDict()
    config.optimizer.name = "rmsprop"
    config.optimizer.momentum = 0.9
    config.optimizer.rms_decay = 0.9
    config.optimizer.epsilon = 1.0
    config.optimizer.weight_decay = 4e-5
    config.optimizer.weight_decay_mask = "not_depthwise"

    config.schedule = ConfigDict()
    config.schedule.name = "exponential"
    config.schedule.learning_rate = 0.045 * config.get_ref("batch_size") / 128
    config.schedule.factor = 0.94
    config.schedule.every_epochs = 2.0
    config.schedule.every_steps = placeholder(int)
    config.schedule.staircase = True
    config.schedule.metric = placeholder(str)
    config.schedule.patience = placeholder(int)
    config.schedule.warmup_epochs = placeholder(float)
    config.schedule.warmup_steps = placeholder(int)

    config.train = ConfigDict()
    config.train.num_epochs = 100.0
    config.train.num_steps = placeholder(int)
    config.train.dtype = "float32"
    config.train.batch_norm_axis = placeholder(str)
    config.train.ema_decay = 0.9999
    config.train.accumulate_steps = 1
    config.train.clip_norm = 2.0
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
