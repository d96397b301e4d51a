"""ResNet-34 on ImageNet, by the paper's recipe.

He, Zhang, Ren, Sun 2015 (arXiv:1512.03385), table 1 and section 3.4: basic blocks 3-4-6-3, shortcuts without parameters
(option A), as in the comparison with the plain network (table 2); model.shortcut B and C are those of table 3.
Published: top-1 / top-5 error by 10 crops: A 25.03 / 7.76 %, B 24.52 / 7.46 %, C 24.19 / 7.40 %; plain 28.54 / 10.02 %
(--config.model.residual=False).
By the paper's protocol: python -m dnn_research.tools.evaluate --workdir runs/resnet34 --protocols ten_crop
The paper lowers the rate by hand when the error plateaus. Here it falls at the fixed steps of fb.resnet.torch, the
published replication: 90 epochs, a tenth of the rate every 30. By a rule instead of by hand:
--config.schedule.name=plateau --config.schedule.boundary_epochs=none --config.schedule.metric=eval/top1_accuracy
--config.schedule.patience=5.
Differs from the paper: the mean is subtracted per channel instead of per pixel, which takes a pass over the training
images first (--config.data.normalization=pixel_mean).

Command: python -m dnn_research.main --config configs/resnet34.py
Reached with this code: not yet run. `:smoke` runs the same network on a few synthetic images, `:laptop` trains a narrow
one on patches of built-in photographs.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

# A quarter of the width on 32-pixel patches of built-in photographs, which end as one pixel, to say from which picture
# each is.
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
    "model.width_factor": 0.25,
    "schedule.name": "cosine",
    "schedule.factor": None,
    "schedule.metric": None,
    "schedule.patience": None,
    "schedule.boundary_epochs": None,
    "schedule.learning_rate": 0.05,
    "eval.protocol": "original",
    "eval.resize": None,
    "train.num_steps": 400,
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
        "central_square": False, "pad": 0, "shorter_side": (256, 480),
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
    config.model.name = "resnet"
    config.model.depth = 34
    config.model.residual = True
    config.model.shortcut = "A"
    config.model.stride_in = "1x1"
    config.model.zero_init_last = False
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
    config.schedule.learning_rate = 0.1 * config.get_ref("batch_size") / 256
    config.schedule.factor = 0.1
    config.schedule.boundary_epochs = (30, 60)
    config.schedule.boundary_steps = placeholder(tuple)
    config.schedule.metric = placeholder(str)
    config.schedule.patience = placeholder(int)
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
    config.eval.scales = (224, 256, 384, 480, 640)
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
