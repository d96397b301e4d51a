"""Does the loss network have to be trained, and does it have to be a VGG?

Johnson, Alahi, Fei-Fei 2016 (arXiv:1603.08155) and Gatys, Ecker, Bethge 2016 take VGG trained on ImageNet.
Ustyuzhaninov et al. 2016 (arXiv:1606.00021) make textures with random weights.

Rows: VGG-16 trained on patches of the built-in photographs (before the first run: python -m dnn_research.main --config
configs/loss_network.py), VGG-16 with random weights, Network in Network with random weights and layers at strides of 1
to 4, where VGG's go to 8. Losses by different networks do not compare; how much of the photographs' own style loss is
left does, roughly, and so do the pictures in each run's TensorBoard (`stylized/`, with record.images above 0). The
laptop scale: 400 steps of two 96-pixel crops of thirteen built-in photographs, the published half-width network.
"""

BASELINE = "configs/style_transfer.py"

BASELINE_ROW = "patches"

ROWS = {
    "patches": {"task.loss_network.weights": "runs/loss_network"},
    "random": {
        "task.loss_network.weights": "random",
        "task.loss_network.model.width_factor": 0.25,
    },
    "nin": {
        "task.loss_network.weights": "random",
        "task.loss_network.model.width_factor": 0.5,
        "task.loss_network.model.name": "nin",
        "task.loss_network.model.variant": "cifar10",
        "task.content_layer": "conv2",
        "task.style_layers": ("conv1", "cccp2", "conv2", "conv3"),
    },
}

LAPTOP = {
    "model.variant": "released",
    "data.image_size": 96,
    "data.augment.shorter_side": (96, 240),
    "train.num_steps": 400,
    "eval.resize": 192,
    "eval.every_steps": 200,
    "checkpoint.every_steps": 200,
}

SEEDS = (0, 1, 2, 3, 4, 5, 6)

MEASURES = ("style_left", "style_loss", "content_loss")

CLAIMS = ()
