"""Photographs enlarged four times, or eight, with a loss on features.

Johnson, Alahi, Fei-Fei 2016 (arXiv:1603.08155), section 4.2: 288-pixel patches of 10,000 of COCO's photographs, blurred
by a Gaussian of 1 pixel and shrunk (bicubic); feature reconstruction at relu2_2 of VGG-16; batch 4, 200,000 steps of
Adam at 1e-3. Published for four times on Set5, PSNR / SSIM on the luminance: bicubic 28.43 / 0.8114, the per-pixel loss
28.40 / 0.8205, the feature loss 27.09 / 0.7680: features make sharper pictures with lower figures.

`:pixel` is the per-pixel loss; `:x8`, `:x8-pixel` enlarge eight times. Before the first run import a VGG-16, as
configs/style_transfer.py says.
Differs from the paper: patches are cropped from photographs rescaled to a shorter side of 288 to 480 pixels;
activations are divided by their mean over photographs, which for a single loss is another learning rate.

Command: python -m dnn_research.main --config configs/super_resolution.py
Then:    python -m dnn_research.tools.upscale --workdir runs/super_resolution photo.jpg --output large.png
Reached with this code: at full scale not yet run. `:laptop` trains on patches of 64 pixels of the built-in photographs,
without normalization, with the loss network of configs/loss_network.py, to be trained first; `:pixel,laptop`: 31.12 dB,
0.8122, bicubic 30.10 dB, 0.7765 (seed 0, jax 0.12, 2026-11-28).
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

VARIANTS = {
    "pixel": {"task.loss": "pixel"},
    "x8": {"model.factor": 8},
    "x8-pixel": {"model.factor": 8, "task.loss": "pixel"},
}

LAPTOP = {
    "batch_size": 16,
    "data.source": "tfds:photo_patches/64",
    "data.train_split": "train",
    "data.eval_split": "test[:160]",
    "data.image_size": 64,
    # A network without normalization wants its images about one.
    "data.std": (127.5, 127.5, 127.5),
    "data.augment.shorter_side": (),
    "data.augment.flip": True,
    "data.num_workers": 2,
    "model.norm": "none",
    "model.width_factor": 0.5,
    "task.loss_network.weights": "runs/loss_network",
    "schedule.name": "cosine",
    "train.num_steps": 8000,
    "eval.protocol": "original",
    "eval.resize": None,
    "eval.batch_size": 16,
    "eval.every_steps": 1000,
    "checkpoint.every_steps": 1000,
    "record.every_steps": 50,
}

SMOKE = {"data.image_size": 64, "task.loss_network.weights": "random", "task.loss_network.rescale": "none"}


def get_config() -> ConfigDict:
    """The complete recipe."""
    config = ConfigDict()
    config.seed = 0
    config.batch_size = 4

    config.data = ConfigDict()
    config.data.source = "tfds:coco/2014"
    config.data.dir = placeholder(str)
    config.data.train_split = "train[:10000]"
    config.data.eval_split = "validation[:100]"
    config.data.holdout_fraction = 0.1
    config.data.holdout_seed = 0
    config.data.damaged = "stop"
    config.data.image_size = 288
    config.data.channels = 3
    config.data.mean = (123.68, 116.779, 103.939)
    config.data.std = (1.0, 1.0, 1.0)
    config.data.normalization = "channel"
    config.data.augment = ConfigDict({
        "central_square": False, "pad": 0, "shorter_side": (288, 480),
        "area": (), "aspect": (3 / 4, 4 / 3), "interpolation": "bilinear", "flip": False,
        "rotation_degrees": 0.0, "vertical_shift": 0.0, "horizontal_shift": 0.0, "zoom": (),
        "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0,
        "randaugment_ops": 0, "randaugment_magnitude": 9.0, "erasing_probability": 0.0, "erasing_area": (0.02, 0.4),
        "pca_noise_std": 0.0, "pca_basis": "imagenet",
        "mixup_alpha": 0.0, "cutmix_alpha": 0.0, "mix_probability": 1.0,
    })  # fmt: skip
    config.data.num_workers = 8
    config.data.synthetic_classes = 1
    config.data.synthetic_examples = 64

    config.model = ConfigDict()
    config.model.name = "super_resolution_net"
    config.model.factor = 4
    config.model.norm = "batch"
    config.model.residual_blocks = 4
    config.model.width_factor = 1.0

    config.task = ConfigDict()
    config.task.name = "super_resolution"
    config.task.loss = "feature"
    config.task.layer = "relu2_2"
    config.task.loss_network = ConfigDict()
    config.task.loss_network.weights = "runs/vgg16_torchvision"
    config.task.loss_network.step = "latest"
    config.task.loss_network.model = ConfigDict({"name": "vgg", "variant": "D", "width_factor": 1.0})
    config.task.loss_network.pooling = placeholder(str)
    config.task.loss_network.rescale = "layers"
    config.task.loss_network.seed = 0

    config.optimizer = ConfigDict()
    config.optimizer.name = "adam"
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.999
    config.optimizer.epsilon = 1e-8
    config.optimizer.weight_decay = 0.0
    config.optimizer.weight_decay_mask = "kernels"

    config.schedule = ConfigDict()
    config.schedule.name = "constant"
    config.schedule.learning_rate = 1e-3
    config.schedule.warmup_epochs = placeholder(float)
    config.schedule.warmup_steps = placeholder(int)

    config.train = ConfigDict()
    config.train.num_epochs = placeholder(float)
    config.train.num_steps = 200_000
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
    config.eval.resize = 288
    config.eval.scales = placeholder(tuple)
    config.eval.flip = placeholder(bool)
    config.eval.multiple = placeholder(int)
    config.eval.batch_size = 4
    config.eval.every_epochs = placeholder(float)
    config.eval.every_steps = 5000

    config.checkpoint = ConfigDict()
    config.checkpoint.every_epochs = placeholder(float)
    config.checkpoint.every_steps = 5000
    config.checkpoint.keep = 2
    config.checkpoint.best_metric = "eval/loss"
    config.checkpoint.init_from = placeholder(str)
    config.checkpoint.init_exclude = ()

    config.record = ConfigDict()
    config.record.every_steps = 100
    config.record.images = 16
    config.record.confusion_classes = 0
    config.record.histograms = False
    config.record.profile_steps = ()
    return config
