"""Makes tests/weights/data/: files as the programs that people use write them.

Run by hand, once in each environment:

    python -m venv A; A/bin/pip install torch==2.14.1 numpy; A/bin/python tests/weights/make_files.py torch
    python -m venv B; B/bin/pip install keras==3.15.1 jax h5py; B/bin/python tests/weights/make_files.py keras
    python -m venv C; C/bin/pip install keras==3.0.5 torch jax h5py
    C/bin/python tests/weights/make_files.py keras torch

The files there were made on 2026-11-24 with Python 3.11 and these versions. Every number in them is `ramp` of its shape
and of its place in the file or the layer, so that the tests can say what has to come out.
"""

import os
import sys
from pathlib import Path

import numpy as np

DATA = Path(__file__).parent / "data"


def ramp(shape, start):
    """Multiples of 1/4 from `start`: exact in every kind of float that is used."""
    return start + np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape) / 4


def make_torch():
    import torch

    def tensor(shape, start, dtype=torch.float32):
        return torch.from_numpy(np.array(ramp(shape, start))).to(dtype)

    grid = tensor((3, 4), 1)
    tensors = {
        "float64": tensor((2, 3), 0, torch.float64),
        "float32": grid,
        "float16": tensor((2, 2), 2, torch.float16),
        "bfloat16": tensor((5,), -1, torch.bfloat16),
        "int64": torch.tensor(7),
        "int32": torch.arange(3, dtype=torch.int32),
        "int16": torch.arange(3, dtype=torch.int16),
        "int8": torch.arange(-1, 2, dtype=torch.int8),
        "uint8": torch.arange(253, 256, dtype=torch.uint8),
        "bool": torch.tensor([True, False, True]),
        "transposed": grid.t(),  # all three share the storage of float32
        "column": grid[:, 1],
        "row": grid[2],
        "channels_last": tensor((2, 3, 2, 2), 0).to(memory_format=torch.channels_last),
        "bfloat16_transposed": tensor((2, 3), 3, torch.bfloat16).t(),
        "expanded": tensor((1, 2), 5).expand(3, 2),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.5),
        "parameter": torch.nn.Parameter(tensor((2,), 9)),
    }
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 2), torch.nn.BatchNorm2d(3))
    network.load_state_dict(
        {
            name: torch.full_like(value, 3) if value.dtype == torch.int64 else tensor(value.shape, place)
            for place, (name, value) in enumerate(network.state_dict().items())
        }
    )
    sgd = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    sum(parameter.sum() for parameter in network.parameters()).backward()
    sgd.step()
    with torch.no_grad():
        for place, parameter in zip((0, 1, 2, 3), network.parameters(), strict=True):
            parameter.copy_(tensor(parameter.shape, place))
    schedule = torch.optim.lr_scheduler.MultiStepLR(sgd, [2, 4])
    state = network.state_dict()
    training = {
        "epoch": 90,
        "best_accuracy": torch.tensor(76.5),
        "state_dict": state,
        "optimizer": sgd.state_dict(),
        "schedule": schedule.state_dict(),
    }
    for name, value in {"tensors": tensors, "state_dict": state, "training": training}.items():
        torch.save(value, DATA / f"{name}.zip.pth")
        torch.save(value, DATA / f"{name}.legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(state, DATA / "state_dict.protocol4.pth", pickle_protocol=4)
    torch.save(state, DATA / "state_dict.protocol4.legacy.pth", pickle_protocol=4, _use_new_zipfile_serialization=False)
    torch.save(network, DATA / "module.pth")


def make_keras():
    os.environ.setdefault("KERAS_BACKEND", (*sys.argv, "jax")[2])
    import keras
    from keras import layers

    def save(name, outputs, endings):
        network = keras.Model(inputs, outputs, name="net")
        for layer in network.layers:
            layer.set_weights([ramp(weight.shape, place) for place, weight in enumerate(layer.get_weights())])
        for ending in endings:
            path = DATA / f"{name}_{keras.__version__}{ending}"
            (network.save_weights if ending == ".weights.h5" else network.save)(path)

    inputs = keras.Input((6, 6, 1), name="image")
    x = layers.Conv2D(2, 2, name="z_conv")(inputs)
    x = layers.BatchNormalization(name="conv1_bn")(x)
    x = layers.DepthwiseConv2D(2, name="dw")(x)
    x = layers.Conv2D(2, 1, name="a_conv", use_bias=False)(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    save("keras", layers.Dense(3, name="predictions")(x), (".keras", ".h5", ".weights.h5"))

    inner = [layers.SeparableConv2D(2, 1, name="sep"), layers.Dropout(0.5), layers.Dense(2, name="in")]
    x = keras.Sequential(inner, name="block")(inputs)
    x = layers.BatchNormalization(name="a_bn", scale=False)(x)
    # The .h5 of Keras 3.0 cannot hold a model in a model.
    endings = (".keras",) if keras.__version__.startswith("3.0.") else (".keras", ".h5")
    save("nested", layers.Dense(2, name="out", dtype="bfloat16")(x), endings)


if __name__ == "__main__":
    DATA.mkdir(exist_ok=True)
    {"torch": make_torch, "keras": make_keras}[sys.argv[1]]()
