"""HDF5 files of Keras and Caffe, and Keras 3's .keras archives, read without TensorFlow; names are `layer/variable`.

    .h5          Keras 1, 2 and 3, a whole model or its weights: attributes name every layer and variable
    .weights.h5  Keras 3: groups named by class (`layers/conv2d_1/vars/0`); the layer's own name stands in an attribute
                 that only newer versions write (3.15 does, 3.0 does not), and variables have numbers for names
    .keras       Keras 3: a zip archive of a .weights.h5 and the model's configuration, which has the missing names
    Caffe        `data/<layer>/<number>`

A variable has the name that Keras 3 gives it: Keras 2's `depthwise_kernel` of a depthwise convolution is `kernel`;
Keras 1's `W`, `b` and `running_std` (a variance in spite of its name) are `kernel`, `bias` and `moving_variance`.

What the library for HDF5 makes of a file that is damaged inside is its own matter: cut files it refuses, but of 1,000
files with up to eight random bytes changed it crashed on one (h5py 3.16.0, 2026-11-24). So `apart` has it read them in
a process of its own.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dnn_research.errors import UserError
from dnn_research.weights import arrays

CONFIG, WEIGHTS = "config.json", "model.weights.h5"

# Keras 1 and its successors' files in that style: layer_W, layer_b_1, ...
KERAS_1 = re.compile(r"_(W|b|gamma|beta|running_mean|running_std)(_\d+)?$")
KERAS_1_NAMES = {"W": "kernel", "b": "bias", "running_mean": "moving_mean", "running_std": "moving_variance"}

_PLAIN = (("kernel",), ("kernel", "bias"))
_SEPARABLE = (("depthwise_kernel", "pointwise_kernel"), ("depthwise_kernel", "pointwise_kernel", "bias"))

# Layer class -> names of its variables in order, told apart by how many there are.
VARIABLES: dict[str, tuple[tuple[str, ...], ...]] = {
    **dict.fromkeys(("dense", "conv1d", "conv2d", "conv3d", "conv2d_transpose", "depthwise_conv2d"), _PLAIN),
    "separable_conv2d": _SEPARABLE,
    "batch_normalization": (("moving_mean", "moving_variance"), ("gamma", "beta", "moving_mean", "moving_variance")),
}

# Where a Keras 3 model keeps its layers: today, and in the first versions of the format.
CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
NO_WEIGHTS = ("vars", "optimizer", "seed_generator")
MOST_LEVELS = 16
MOST_STEPS = 10_000  # ResNet-152 takes 2,000; groups may share groups, so that few bytes have many ways

SAVE_OTHERWISE = "save the model as .keras or as .h5, which have the names"


def is_zip(names: Iterable[str]) -> bool:
    """Whether a zip archive with these entries is a .keras file."""
    return {CONFIG, WEIGHTS} <= set(names)


def read_zip(path: Path, archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    """The weights of a .keras file."""
    for name in (CONFIG, WEIGHTS):
        info = archive.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED:
            raise UserError(f"{path} is refused: '{name}' is compressed, which Keras never does")
        if max(info.compress_size, info.file_size) > path.stat().st_size:
            raise UserError(f"{path} is damaged or cut short: '{name}' would be longer than the file")
    config = json.loads(archive.read(CONFIG))
    with h5py.File(io.BytesIO(archive.read(WEIGHTS)), "r") as file:
        return _read(path, _File(path, file).keras_3(config))


def read_hdf5(path: Path) -> dict[str, np.ndarray]:
    """The weights of a bare HDF5 file of Keras or Caffe."""
    with h5py.File(path, "r") as file:
        reader = _File(path, file)
        if reader.has(file, "model_weights"):
            return _read(path, reader.legacy("model_weights"))
        if "layer_names" in file.attrs or "layer_names0" in file.attrs:
            return _read(path, reader.legacy(""))
        if any(reader.has(file, container) for container in CONTAINERS):
            return _read(path, reader.keras_3(None))
        if reader.has(file, "data"):
            return _read(path, reader.caffe())
    raise UserError(f"{path} is HDF5 and neither of Keras nor of Caffe")


def _read(path: Path, datasets: Iterable[tuple[str, h5py.Dataset]]) -> dict[str, np.ndarray]:
    found = list(datasets)
    for name, dataset in found:
        arrays.check_dtype(path, name, dataset.dtype)
    arrays.check_total(path, sum(dataset.size * dataset.dtype.itemsize for _, dataset in found))
    return arrays.named(path, ((name, arrays.native(np.asarray(dataset[()]))) for name, dataset in found))


class _File:
    """One open HDF5 file, whose links are followed as long as they stay inside it."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path = path
        self.file = file
        self.steps = 0

    def legacy(self, root: str) -> Iterator[tuple[str, h5py.Dataset]]:
        """Name and dataset of every variable of a .h5 file, in the order of the layers."""
        group = self._group(self.file, root) if root else self.file
        for layer in self._names(group, "layer_names"):
            inside = self._group(group, layer)
            stored = self._names(inside, "weight_names")
            yield from zip(legacy_names(layer, stored), (self._dataset(inside, name) for name in stored), strict=True)

    def caffe(self) -> Iterator[tuple[str, h5py.Dataset]]:
        """`layer/number` and dataset of every blob of a snapshot; a layer's name may have slashes in it."""

        def walk(group: h5py.Group, prefix: str, levels: int) -> Iterator[tuple[str, h5py.Dataset]]:
            self._check_levels(levels)
            for key in sorted(group, key=_natural):
                inside = self._get(group, key)
                if isinstance(inside, h5py.Group):
                    yield from walk(inside, f"{prefix}{key}/", levels + 1)
                else:
                    yield f"{prefix}{key}", self._dataset(group, key)

        yield from walk(self._group(self.file, "data"), "", 0)

    def keras_3(self, config: Any) -> Iterator[tuple[str, h5py.Dataset]]:
        """Name and dataset of every variable; in the order of the layers if there is a configuration."""
        yield from self._keras_3(self.file, config, 0)

    def _keras_3(self, model: h5py.Group, config: Any, levels: int) -> Iterator[tuple[str, h5py.Dataset]]:
        self._check_levels(levels)
        layers = layers_by_group(config)
        for container in (name for name in CONTAINERS if self.has(model, name)):
            group = self._group(model, container)
            order = {key: place for place, key in enumerate(layers)}
            for key in sorted(group, key=lambda key: (order.get(key, len(order)), _natural(key))):
                layer = self._group(group, key)
                if any(self.has(layer, name) for name in CONTAINERS):
                    yield from self._keras_3(layer, layers.get(key), levels + 1)
                    continue
                more = [name for name in layer if name not in NO_WEIGHTS and self._has_variables(layer, name)]
                if more:
                    raise UserError(f"{self.path} has variables in '{layer.name}/{more[0]}' that no name is known for")
                if self.has(layer, "vars"):
                    yield from self._layer(key, self._group(layer, "vars"), layers.get(key))

    def _layer(
        self, key: str, variables: h5py.Group, config: Mapping[str, Any] | None
    ) -> Iterator[tuple[str, h5py.Dataset]]:
        if not len(variables):
            return
        layer = variables.attrs.get("name") or (config or {}).get("config", {}).get("name")
        if not isinstance(layer, str):
            raise UserError(f"{self.path} does not say which layer '{variables.parent.name}' is; {SAVE_OTHERWISE}")
        kind = re.sub(r"_\d+$", "", key)
        names = {len(names): names for names in VARIABLES.get(kind, ())}
        if kind == "batch_normalization" and config is not None:
            affine = {"gamma": config["config"].get("scale"), "beta": config["config"].get("center")}
            names[3] = (*(name for name, there in affine.items() if there), "moving_mean", "moving_variance")
        stored = sorted(variables, key=_natural)
        if stored != [str(place) for place in range(len(stored))] or len(stored) not in names:
            raise UserError(
                f"{self.path} has {len(stored)} variables in layer '{layer}' of kind '{kind}' and does not name them; "
                f"{'save the model as .h5, which names them' if config is not None else SAVE_OTHERWISE}"
            )
        for name, number in zip(names[len(stored)], stored, strict=True):
            yield f"{layer}/{name}", self._dataset(variables, number)

    def _has_variables(self, group: h5py.Group, name: str, levels: int = 0) -> bool:
        self._check_levels(levels)
        inside = self._get(group, name)
        if isinstance(inside, h5py.Group):
            return any(self._has_variables(inside, key, levels + 1) for key in inside if key != "seed_generator")
        return True

    def _names(self, group: h5py.Group, attribute: str) -> list[str]:
        """An attribute that lists names; Keras cuts one that is too long for HDF5 into numbered parts."""
        parts = [attribute] if attribute in group.attrs else []
        while f"{attribute}{len(parts)}" in group.attrs and parts != [attribute]:
            parts.append(f"{attribute}{len(parts)}")
        if not parts:
            raise UserError(f"{self.path} is damaged: '{group.name}' lacks the attribute '{attribute}'")
        names = [name for part in parts for name in np.asarray(group.attrs[part]).ravel().tolist()]
        return [name.decode("utf-8") if isinstance(name, bytes) else str(name) for name in names]

    def _check_levels(self, levels: int) -> None:
        if levels > MOST_LEVELS:
            raise UserError(f"{self.path} is refused: its groups are nested more than {MOST_LEVELS} deep")

    def has(self, group: h5py.Group, name: str) -> bool:
        """Whether a group has a link of this name, wherever it leads."""
        return group.get(name, getlink=True) is not None

    def _get(self, group: h5py.Group, name: str) -> Any:
        """What `name`, which may be a path, stands for; no link leads into another file."""
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise UserError(f"{self.path} is refused: it has more than {MOST_STEPS:,} groups and arrays")
        inside: Any = group
        for part in name.split("/"):
            if not isinstance(inside, h5py.Group) or not self.has(inside, part):
                raise UserError(f"{self.path} is damaged: it lacks '{group.name}/{name}'")
            if not isinstance(inside.get(part, getlink=True), h5py.HardLink):
                raise UserError(f"{self.path} is refused: '{inside.name}/{part}' is a link to somewhere else")
            inside = inside[part]
        return inside

    def _group(self, group: h5py.Group, name: str) -> h5py.Group:
        inside = self._get(group, name)
        if not isinstance(inside, h5py.Group):
            raise UserError(f"{self.path} is damaged: '{inside.name}' is no group")
        return inside

    def _dataset(self, group: h5py.Group, name: str) -> h5py.Dataset:
        inside = self._get(group, name)
        if not isinstance(inside, h5py.Dataset) or inside.shape is None:
            raise UserError(f"{self.path} is damaged: '{inside.name}' is no array")
        if inside.external or inside.is_virtual:
            raise UserError(f"{self.path} is refused: '{inside.name}' is kept in another file")
        return inside


def legacy_names(layer: str, stored: list[str]) -> list[str]:
    """`layer/variable` for each weight of a layer of a .h5 file; of a nested model, `inner layer/variable`.

    A layer's group has its true name, while the weight names may bear a suffix (`conv1_1/kernel:0`) or no layer at all.
    """
    plain = [name.removesuffix(":0") for name in stored]
    layers = {name.rpartition("/")[0] for name in plain}
    names = []
    for name in plain:
        prefix, _, variable = name.rpartition("/")
        if old := KERAS_1.search(variable):
            variable = KERAS_1_NAMES.get(old[1], old[1])
        names.append(f"{layer if len(layers) == 1 else prefix.rpartition('/')[2]}/{variable}")
    separable = {name.rpartition("/")[0] for name in names if name.endswith("/pointwise_kernel")}
    return [
        name.replace("/depthwise_kernel", "/kernel") if name.rpartition("/")[0] not in separable else name
        for name in names
    ]


def layers_by_group(config: Any) -> dict[str, Mapping[str, Any]]:
    """Group -> configuration of each layer of a model: groups are named by class, counted in order."""
    layers = config["config"].get("layers", []) if config else []
    groups: dict[str, Mapping[str, Any]] = {}
    counts: dict[str, int] = {}
    for layer in layers:
        kind = _snake_case(layer["class_name"])
        groups[f"{kind}_{counts[kind]}" if kind in counts else kind] = layer
        counts[kind] = counts.get(kind, 0) + 1
    return groups


def _snake_case(name: str) -> str:
    """As Keras does it: `DepthwiseConv2D` is `depthwise_conv2d`."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _natural(key: str) -> tuple[tuple[int, str], ...]:
    """Sorts `conv2d_10` after `conv2d_9`."""
    return tuple((int(number or 0), text) for text, number in re.findall(r"([^\d]*)(\d*)", key))
