"""The publishers' archives of data sets, made into what TensorFlow Datasets would make of them, without TensorFlow.

Feature structure, names, versions, keys (and with them the order of the examples), label order and splits are those of
TensorFlow Datasets' own builders, of which only the reading of the archives, which needs TensorFlow, is replaced.
"""

from dnn_research.tools.preparing import cifar, coco, idx, imagenet, svhn
from dnn_research.tools.preparing.preparation import Preparation

PREPARATIONS: dict[str, Preparation] = {
    "cifar10": cifar.CIFAR10,
    "cifar100": cifar.CIFAR100,
    "mnist": idx.MNIST,
    "fashion_mnist": idx.MNIST,
    "kmnist": idx.MNIST,
    "svhn_cropped": svhn.SVHN,
    "imagenet2012": imagenet.IMAGENET,
    "coco/2014": coco.COCO_2014,
    "coco/2017": coco.COCO_2017,
}
