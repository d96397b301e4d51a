"""A network that paints photographs in the style of one picture, or of several.

Johnson, Alahi, Fei-Fei 2016 (arXiv:1603.08155), section 4.1 and supplement: COCO's 80k training photographs at 256
pixels, batch 4, 40,000 steps of Adam at 1e-3, no weight decay, losses in VGG-16: content in relu2_2, style in relu1_2,
relu2_2, relu3_3, relu4_3, total variation between 1e-6 and 1e-4. The paper prints no number for a trained style.

`:released` is the authors' code: instance normalization, content in relu3_3. Its loss weights of 1, 5 and 1e-6 are for
activations of Caffe's VGG-16 as they are. Here activations are first divided by their mean over photographs, layer by
layer (`task.loss_network.rescale`), so that weights hold for any lineage (`none` leaves them): a style loss then weighs
less by the square of that mean, total variation more. Taking it for a hundred, the weights become 1, 5e4 and 1e-10; no
imported network was at hand to try them.
Before the first run, import a VGG-16: python -m dnn_research.weights import --file vgg16.pth --lineage torchvision
--config configs/vgg16.py --workdir runs/vgg16_torchvision; or any classifier of yours: task.loss_network.weights.
COCO once: the command that prints when it is not there, or data.source=images:FOLDER with
data.train_split=all[100:] and data.eval_split=all[:100] for photographs of your own.
Differs from the paper: photographs are cropped at random from their shorter side of 256 pixels, not squeezed.

Command: python -m dnn_research.main --config configs/style_transfer.py
Then:    python -m dnn_research.tools.stylize --workdir runs/style_transfer photo.jpg --output painted.jpg
Reached with this code: at full scale not yet run. `:laptop` trains pytorch/examples' network at half its width on
thirteen built-in photographs; its loss network is a narrow VGG-16 that has learned patches of them, to be trained
first: python -m dnn_research.main --config configs/loss_network.py
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

VARIANTS = {
    "released": {
        "model.variant": "released",
        "task.content_layer": "relu3_3",
        "task.normalization": "released",
        "task.style_weight": 5e4,
        "task.tv_weight": 1e-10,
    },
}

# Thirteen pictures to train on, three to look at: cat, motorcycle and rocket.
LAPTOP = {
    "batch_size": 2,
    "data.source": "tfds:photo_patches/photos",
    "data.train_split": "train[3:]",
    "data.eval_split": "train[:3]",
    "data.image_size": 128,
    "data.augment.shorter_side": (128, 320),
    "data.num_workers": 2,
    "data.augment.flip": True,
    "model.variant": "pytorch",
    "model.width_factor": 0.5,
    "task.style_images": ("builtin:tissue",),
    "task.style_layers": ("relu1_1", "relu1_2", "relu2_2", "relu3_3", "relu4_3"),
    "task.style_weight": 0.3,
    "task.tv_weight": 3e-8,
    "task.loss_network.weights": "runs/loss_network",
    "schedule.name": "cosine",
    "schedule.learning_rate": 2e-3,
    "train.num_steps": 3000,
    "eval.resize": 256,
    "eval.batch_size": 3,
    "eval.every_steps": 500,
    "checkpoint.every_steps": 500,
    "record.every_steps": 25,
}

SMOKE = {
    "data.image_size": 64,
    "task.style_size": 64,
    "task.loss_network.weights": "random",
    "task.loss_network.rescale": "none",
}


def get_config() -> ConfigDict:
    """The complete recipe."""
    config = ConfigDict()
    config.seed = 0
    config.batch_size = 4

    config.data = ConfigDict()
    config.data.source = "tfds:coco/2014"
    config.data.dir = placeholder(str)
    config.data.train_split = "train"
    config.data.eval_split = "validation[:500]"
    config.data.holdout_fraction = 0.1
    config.data.holdout_seed = 0
    config.data.damaged = "stop"
    config.data.image_size = 256
    config.data.channels = 3
    config.data.mean = (123.68, 116.779, 103.939)
    config.data.std = (1.0, 1.0, 1.0)
    config.data.normalization = "channel"
    config.data.augment = ConfigDict({
        "central_square": False, "pad": 0, "shorter_side": (256, 256),
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
    config.model.name = "transform_net"
    config.model.variant = "paper"
    config.model.norm = placeholder(str)
    config.model.upsampling = placeholder(str)
    config.model.styles = 1
    config.model.border = placeholder(int)
    config.model.width_factor = 1.0

    config.task = ConfigDict()
    config.task.name = "style_transfer"
    config.task.style_images = ("builtin:tissue",)
    config.task.style_size = 256
    config.task.content_layer = "relu2_2"
    config.task.style_layers = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
    config.task.content_weight = 1.0
    config.task.style_weight = 10.0
    config.task.tv_weight = 1e-9
    config.task.normalization = "paper"
    config.task.evaluate_iterations = 0
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
    config.train.num_steps = 40_000
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
    config.eval.batch_size = 4
    config.eval.every_epochs = placeholder(float)
    config.eval.every_steps = 2000

    config.checkpoint = ConfigDict()
    config.checkpoint.every_epochs = placeholder(float)
    config.checkpoint.every_steps = 2000
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
