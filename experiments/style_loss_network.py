"""Which loss network makes a style: does it have to be trained, on what, and does it have to be a VGG?

Johnson et al. 2016 and Gatys et al. 2016 take VGG trained on ImageNet. Others found that random weights carry textures
too (Ustyuzhaninov et al. 2016, arXiv:1606.00021). Losses of different networks do not compare: look at the pictures
(TensorBoard, `stylized/`), and measure all of them with one network (tools.stylize --measure of the baseline's run).

Rows: VGG-16 from the paper's recipe (imported, or at the laptop scale random); random weights with another seed; VGG-16
trained on patches of the built-in photographs (python -m dnn_research.main --config configs/vgg16.py:laptop first);
Network in Network with random weights, layers at the same depths in pixels.

Not yet run.

Command: python -m dnn_research.main --config experiments/style_loss_network.py:patches,laptop
"""

BASELINE = "configs/style_transfer.py"

ROWS = {
    "baseline": {},
    "random": {"task.loss_network.weights": "random"},
    "random-2": {"task.loss_network.weights": "random", "task.loss_network.seed": 1},
    "patches": {"task.loss_network.weights": "runs/vgg16-laptop"},
    "nin": {
        "task.loss_network.weights": "random",
        "task.loss_network.model.name": "nin",
        "task.loss_network.model.variant": "cifar10",
        "task.content_layer": "conv2",
        "task.style_layers": ("conv1", "cccp2", "conv2", "conv3"),
    },
}

SEEDS = (0,)

CLAIMS = {}
