"""The networks that are measured: recipes of `configs/` on synthetic images; what is trained, with plain SGD."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from dnn_research import recipe
from dnn_research.errors import UserError, choose

CONFIGS = Path(__file__).parents[3] / "configs"


@dataclasses.dataclass(frozen=True)
class Network:
    """A recipe of `configs/`, the batch size of its measurement, and what is changed in it.

    Those that are not `trained` are measured in inference alone: their losses are not a classifier's.
    """

    recipe: str
    batch_size: int
    changes: tuple[str, ...] = ()
    trained: bool = True


NETWORKS = {
    "resnet50": Network("resnet50.py", 16),
    # Padded on all sides: torch has no convolution that pads as the paper's code, and would pay for a copy.
    "mobilenet": Network("mobilenet.py", 32, ("config.model.lineage=torch",)),
    "alexnet": Network("alexnet.py", 64),
    "vgg16": Network("vgg16.py", 8),
    "googlenet": Network("googlenet.py", 32),
    "nin": Network("nin.py:imagenet", 32),
}
# As pytorch/examples has it (fast_neural_style); which loss network it learns with does not matter here.
STYLIZE = (
    "config.model.variant=pytorch",
    "config.task.loss_network.weights=random",
    "config.data.augment.shorter_side=()",
)
# Measured when they are named.
MORE = {
    "mobilenet_paper": Network("mobilenet.py", 32),
    "resnet152": Network("resnet152.py", 8),
    **{
        f"transform_net_{size}": Network(
            "style_transfer.py",
            1,
            (*STYLIZE, f"config.data.image_size={size}", f"config.eval.resize={size}"),
            trained=False,
        )
        for size in (256, 512)
    },
}

# One measure for all. Under He's initial values what comes out depends on every layer, and with pixels in -16..16 it
# depends on biases and on local response normalization both.
PLAIN = {
    "data.synthetic_classes": "1000",
    "data.mean": "(127.5, 127.5, 127.5)",
    "data.std": "(8.0, 8.0, 8.0)",
    "data.normalization": "channel",
    "data.augment.pad": "0",
    "data.augment.shorter_side": "()",
    "data.augment.area": "()",
    "data.augment.flip": "False",
    "data.augment.brightness": "0.0",
    "data.augment.contrast": "0.0",
    "data.augment.saturation": "0.0",
    "data.augment.pca_noise_std": "0.0",
    "model.weight_init": "modern",
    "optimizer.name": "sgd",
    "optimizer.momentum": "0.9",
    "optimizer.nesterov": "False",
    "optimizer.weight_decay": "1e-4",
    "optimizer.weight_decay_mask": "all",
    "schedule.name": "constant",
    "schedule.learning_rate": "1e-4",
    "train.num_steps": "1000",
    "train.ema_decay": "0.0",
    "train.clip_norm": "none",
    "checkpoint.best_metric": "eval/top1_accuracy",
}
# The fields of these sections that `PLAIN` does not name belong to the recipe's own optimizer and schedule.
REPLACED = ("optimizer", "schedule")

DTYPES = ("float32", "bfloat16")
DROPOUT = ("model.dropout_rate", "model.aux_dropout_rate")


@dataclasses.dataclass(frozen=True)
class Case:
    """What is measured: a recipe under a name.

    Attributes:
        name: of the network, or the config file.
        config: FILE[:WORD,...].
        overrides: such as `config.batch_size=32`.
        batch_size: images in a step, over all devices.
        dtype: what is computed in.
        trained: whether training can be measured, too.
    """

    name: str
    config: str
    overrides: Sequence[str]
    batch_size: int
    dtype: str
    trained: bool = True

    def changed(self, *overrides: str) -> "Case":
        """With more overrides.

        Raises:
            UserError: the recipe does not take them.
        """
        case = dataclasses.replace(self, overrides=(*self.overrides, *overrides))
        recipe.load(case.config, case.overrides)
        return case

    def without_dropout(self) -> "Case":
        """With every unit kept."""
        fields = recipe.flatten(recipe.load(self.config, self.overrides).config.to_dict())
        return self.changed(*(f"config.{field}=0.0" for field in DROPOUT if field in fields))


@dataclasses.dataclass(frozen=True)
class Entry:
    """A contender of ours: its name, what it runs, and whether with stock operations."""

    name: str
    case: Case
    stock: bool = False


def names(given: str) -> list[str]:
    """The networks that `--network` names."""
    groups = {"all": list(NETWORKS), **{name: [name] for name in (*NETWORKS, *MORE)}}
    return [name for word in given.split(",") for name in choose(groups, word, "network")]


def benchmark(name: str, batch_size: int | None, dtype: str) -> Case:
    """A benchmark network; without a batch size with its own."""
    network = {**NETWORKS, **MORE}[name]
    if not CONFIGS.is_dir():
        raise UserError(f"{CONFIGS} is not there: the benchmark networks are recipes of a checkout; run it there")
    config = str(CONFIGS / network.recipe)
    plain = _plain(config) if network.trained else []
    case = of_recipe(config, (*plain, *network.changes), batch_size or network.batch_size, dtype)
    return dataclasses.replace(case, name=name, trained=network.trained)


def of_recipe(config: str, overrides: Sequence[str], batch_size: int | None, dtype: str | None) -> Case:
    """A recipe on synthetic images; without a batch size or dtype with its own."""
    own = recipe.load(config, overrides).config
    size, precision = batch_size or own.batch_size, dtype or own.train.dtype
    more = (
        "config.data.source=synthetic",
        f"config.data.synthetic_examples={max(256, size)}",
        f"config.batch_size={size}",
        f"config.train.dtype={precision}",
    )
    return Case(config, config, (*overrides, *more), size, precision)


def _plain(config: str) -> list[str]:
    """The overrides that `PLAIN` is for this recipe."""
    fields = recipe.flatten(recipe.load(config).config.to_dict())
    given = {field: value for field, value in PLAIN.items() if field in fields}
    for field in fields:
        if field.startswith(REPLACED) and field not in PLAIN:
            given[field] = "none"
    return [f"config.{field}={value}" for field, value in given.items()]
