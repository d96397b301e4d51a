"""A narrow VGG-16 that tells sixteen pictures apart by their patches: a loss network where no imported one is at hand.

Style transfer and super-resolution compare activations in a network that was trained to classify (configs/
style_transfer.py, configs/super_resolution.py, whose `:laptop` take this one). No paper has it: VGG-16 with batch
normalization, a quarter of its width, 48-pixel crops of patches of the built-in photographs, minutes on two cores.

Command: python -m dnn_research.main --config configs/loss_network.py
Reached with this code: 88.67 % top-1 (seed 0, jax 0.12, one core, 2026-11-28), 89.22 % (seed 1).
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

TRY_NEXT = {
    "a network that paints, with its losses": "--config configs/style_transfer.py:laptop",
}


def get_config() -> ConfigDict:
    """The complete recipe."""
    config = ConfigDict()
    config.seed = 0
    config.batch_size = 32

    config.data = ConfigDict()
    config.data.source = "tfds:photo_patches/64"
    config.data.dir = placeholder(str)
    config.data.train_split = "train"
    config.data.eval_split = "test"
    config.data.holdout_fraction = 0.1
    config.data.holdout_seed = 0
    config.data.damaged = "stop"
    config.data.image_size = 48
    config.data.channels = 3
    config.data.mean = (123.68, 116.779, 103.939)
    config.data.std = (1.0, 1.0, 1.0)
    config.data.normalization = "channel"
    config.data.augment = ConfigDict({
        "central_square": False, "pad": 0, "shorter_side": (48, 72),
        "area": (), "aspect": (3 / 4, 4 / 3), "interpolation": "bilinear", "flip": True,
        "rotation_degrees": 0.0, "vertical_shift": 0.0, "horizontal_shift": 0.0, "zoom": (),
        "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0,
        "randaugment_ops": 0, "randaugment_magnitude": 9.0, "erasing_probability": 0.0, "erasing_area": (0.02, 0.4),
        "pca_noise_std": 0.0, "pca_basis": "imagenet",
        "mixup_alpha": 0.0, "cutmix_alpha": 0.0, "mix_probability": 1.0,
    })  # fmt: skip
    config.data.num_workers = 2
    config.data.synthetic_classes = 16
    config.data.synthetic_examples = 1024

    config.model = ConfigDict()
    config.model.name = "vgg"
    config.model.variant = "D"
    config.model.batch_norm = True
    config.model.fully_convolutional = False
    config.model.image_size = 48
    config.model.pooling = "max"
    config.model.dropout_rate = 0.5
    config.model.weight_init = "modern"
    config.model.width_factor = 0.25
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
    config.schedule.name = "cosine"
    config.schedule.learning_rate = 0.05
    config.schedule.warmup_epochs = placeholder(float)
    config.schedule.warmup_steps = placeholder(int)

    config.train = ConfigDict()
    config.train.num_epochs = placeholder(float)
    config.train.num_steps = 4000
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
    config.eval.resize = 56
    config.eval.scales = placeholder(tuple)
    config.eval.flip = placeholder(bool)
    config.eval.multiple = placeholder(int)
    config.eval.batch_size = 64
    config.eval.every_epochs = placeholder(float)
    config.eval.every_steps = 500

    config.checkpoint = ConfigDict()
    config.checkpoint.every_epochs = placeholder(float)
    config.checkpoint.every_steps = 500
    config.checkpoint.keep = 1
    config.checkpoint.best_metric = "eval/top1_accuracy"
    config.checkpoint.init_from = placeholder(str)
    config.checkpoint.init_exclude = ()

    config.record = ConfigDict()
    config.record.every_steps = 50
    config.record.images = 64
    config.record.histograms = True
    config.record.confusion_classes = 100
    config.record.profile_steps = ()
    return config
