"""Recipes: how a config file becomes the one locked config that a run depends on.

A *recipe* is a file in `configs/` with `get_config() -> ConfigDict`: one complete run. It may also hold `LAPTOP`, the
differences (dotted path -> value) that shrink the same question to built-in data and two cores, `VARIANTS` (word ->
differences) for the same network in the paper's other forms, `SMOKE` (differences beside those that `smoke` makes in
every recipe), and `TRY_NEXT`.
An *experiment* is a file in `experiments/` with `BASELINE` (a recipe, with a variant's word perhaps) and `ROWS` (name
-> differences), and perhaps differences of all its rows, `PAPER` at the paper's scale and `LAPTOP` at the laptop's, the
latter after the baseline's, and `LAPTOP_ROWS`, which stand for the rows of the same names there.

Words after the file choose among these: `configs/vgg16.py:E,smoke`, `experiments/residual.py:plain-56,laptop`.
The order is: recipe, variant, PAPER, or LAPTOP of the recipe and of the experiment, row, SMOKE, command line. Whoever
sets a duration in steps takes back the one in epochs, and the other way round.
"""

import ast
import dataclasses
import difflib
import hashlib
import importlib.util
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict, config_dict

from dnn_research.errors import UserError, suggest

# How and where a run is executed, not what it is: it may go on with other values of these.
EXECUTION = (
    "data.dir",
    "data.num_workers",
    "model.scan_blocks",
    "model.remat_blocks",
    "model.towers",
    "train.deterministic",
    "checkpoint.keep",
    "record.images",
    "record.histograms",
    "record.confusion_classes",
    "record.profile_steps",
)

SECTIONS = ("task", "model", "data", "optimizer", "schedule", "train", "eval", "checkpoint", "record")

# What `smoke` changes in any recipe: the network and the whole path stay, everything that takes time shrinks.
SMOKE: dict[str, Any] = {
    "batch_size": 8,
    "data.source": "synthetic",
    "data.synthetic_examples": 16,
    "schedule.warmup_epochs": None,
    "schedule.warmup_steps": None,
    "train.num_steps": 3,
    "eval.batch_size": 8,
    "eval.every_steps": 3,
    "checkpoint.every_steps": 3,
    "checkpoint.init_from": None,
    "checkpoint.init_exclude": (),
    "record.every_steps": 1,
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A loaded recipe.

    Attributes:
        config: locked.
        name: for its work directory.
        overrides: what the command line changed.
        try_next: what the recipe proposes after it: a few words -> arguments of dnn_research.main.
    """

    config: ConfigDict
    name: str
    overrides: tuple[str, ...]
    try_next: Mapping[str, str]


def load(spec: str, overrides: Sequence[str] = ()) -> Recipe:
    """Loads `FILE[:WORD,...]` and applies `overrides` such as `config.train.num_epochs=90`.

    Raises:
        UserError: the file, a word, a key or a value is wrong.
    """
    path, words = _split(spec)
    module = _execute(path)
    row: Mapping[str, Any] = {}
    given: list[str] = []
    experiment_paper: Mapping[str, Any] = {}
    experiment_laptop: Mapping[str, Any] = {}
    if hasattr(module, "ROWS"):
        names = [word for word in words if word in module.ROWS]
        if len(names) != 1:
            raise UserError(
                f"{path} is an experiment: name one of its rows, as in {path}:{next(iter(module.ROWS))}; "
                f"it has: {', '.join(module.ROWS)}"
            )
        row = rows_of(module, laptop="laptop" in words)[names[0]]
        experiment_laptop, experiment_paper = getattr(module, "LAPTOP", {}), getattr(module, "PAPER", {})
        baseline, given = _split(str(path.resolve().parent.parent / module.BASELINE))
        module = _execute(baseline)
    else:
        names = []
    variants: Mapping[str, Mapping[str, Any]] = getattr(module, "VARIANTS", {})
    chosen = given or [word for word in words if word in variants and word not in names]
    if len(chosen) > 1:
        raise UserError(f"{path}: take one of the variants {', '.join(chosen)}, not several")
    known = [
        *names,
        *([] if given else variants),
        "smoke",
        *(["laptop"] if hasattr(module, "LAPTOP") or experiment_laptop else []),
    ]
    for word in words:
        if word not in known:
            raise UserError(f"{path} does not know the word '{word}'; it knows: {', '.join(known)}")

    config = module.get_config()
    for key in ("seed", "batch_size", *SECTIONS):
        if key not in config:
            raise UserError(f"{path}: the recipe lacks '{key}'; a recipe holds seed, batch_size, {', '.join(SECTIONS)}")
    for word in chosen:
        apply(config, variants[word], origin=f"variant {word}")
    if "laptop" in words:
        apply(config, getattr(module, "LAPTOP", {}), origin="LAPTOP")
        apply(config, experiment_laptop, origin="LAPTOP")
    else:
        apply(config, experiment_paper, origin="PAPER")
    apply(config, row, origin=f"row {names[0]}" if names else "row")
    if "smoke" in words:
        apply(config, SMOKE, origin="smoke")
        apply(config, getattr(module, "SMOKE", {}), origin="SMOKE")
    for override in overrides:
        _apply_override(config, override)
    config.lock()
    return Recipe(config, "-".join([path.stem, *words]), tuple(overrides), getattr(module, "TRY_NEXT", {}))


def load_experiment(path: Path) -> ModuleType:
    """The module of an experiment's file.

    Raises:
        UserError: there is none, or it is a recipe.
    """
    file, _ = _split(str(path))
    module = _execute(file)
    if not hasattr(module, "ROWS"):
        raise UserError(f"{path} is a recipe, not an experiment: it has no ROWS; train it with dnn_research.main")
    return module


def rows_of(module: ModuleType, *, laptop: bool) -> dict[str, Mapping[str, Any]]:
    """The rows of an experiment at the paper's scale, or at the laptop's."""
    return {**module.ROWS, **(getattr(module, "LAPTOP_ROWS", {}) if laptop else {})}


def apply(config: ConfigDict, differences: Mapping[str, Any], *, origin: str) -> None:
    """Sets every dotted path of `differences`; an unknown path or a wrong type is an error that names `origin`."""
    for path, value in differences.items():
        section, key = _find(config, path)
        try:
            _assign(section, key, value)
        except (TypeError, ValueError) as error:
            raise UserError(f"{origin}: config.{path} takes {_describe(_kind(section, key))}, not {value!r}") from error


def unrolled(recipe: Recipe, *, origin: str) -> Recipe:
    """The same recipe with blocks that run one by one, so that they can be looked into."""
    keys = [key for key in ("scan_blocks", "remat_blocks") if key in recipe.config.model]
    return changed(recipe, {f"model.{key}": False for key in keys}, origin=origin)


def changed(recipe: Recipe, differences: Mapping[str, Any], *, origin: str) -> Recipe:
    """The recipe with other values at some dotted paths; see `apply`."""
    config = recipe.config.copy_and_resolve_references()
    with config.unlocked():
        apply(config, differences, origin=origin)
    return dataclasses.replace(recipe, config=config)


def plain(config: ConfigDict) -> dict[str, Any]:
    """The config as JSON's types, references resolved: what run.json holds and what two runs are compared by."""
    return json.loads(json.dumps(config.to_dict()))


def identity(config: Mapping[str, Any]) -> str:
    """A hash of all that decides what a run of a plain config is: a run may go on with checkpoints of its own alone."""
    deciding = {key: value for key, value in flatten(config).items() if key not in EXECUTION}
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:16]


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{'train': {'num_epochs': 90}} -> {'train.num_epochs': 90}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    """key -> `before -> after` for every key in which two plain configs differ."""
    old, new = flatten(before), flatten(after)
    absent = "(absent)"
    return {
        key: f"{old.get(key, absent)} -> {new.get(key, absent)}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key, absent) != new.get(key, absent)
    }


def refuse(changes: Mapping[str, str], complaint: str) -> None:
    """Raises UserError with the complaint and the `differences`, if there are any."""
    if changes:
        told = "; ".join(f"{key}: {change}" for key, change in changes.items())
        raise UserError(f"{complaint}. Differences (there -> here): {told}")


def _split(spec: str) -> tuple[Path, list[str]]:
    file, _, arguments = spec.partition(".py:")
    path = Path(file + ".py" if arguments or spec.endswith(":") else spec)
    if not os.path.isfile(path):  # Path.is_file raises where a name is too long
        folder = path.parent if path.parent.is_dir() else Path("configs")
        there = sorted(p.name for p in folder.glob("*.py"))
        near = difflib.get_close_matches(path.name, there, n=1)
        hint = f"did you mean {folder / near[0]}?" if near else f"{folder} has: {', '.join(there) or 'nothing'}"
        raise UserError(f"no config file {path}; {hint}")
    return path, [word for word in arguments.split(",") if word]


def _execute(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"_recipe_{path.stem}", path)
    if spec is None or spec.loader is None or not os.path.isfile(path):
        raise UserError(f"{path} is not a Python file that can be read as a config")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{path} cannot be read as a config: {type(error).__name__}: {error}") from error
    if not hasattr(module, "get_config") and not hasattr(module, "ROWS"):
        raise UserError(f"{path} is neither a recipe (it has no get_config) nor an experiment (it has no ROWS)")
    return module


def _find(config: ConfigDict, path: str) -> tuple[ConfigDict, str]:
    """The section that holds the dotted `path`, and the last key."""
    *sections, key = path.split(".")
    section: Any = config
    for name in sections:
        section = section[name] if isinstance(section, ConfigDict) and name in section else None
    if not isinstance(section, ConfigDict) or key not in section:
        known = list(flatten(config.to_dict()))
        raise UserError(f"unknown config key '{path}'{suggest(path, known)}")
    return section, key


def _apply_override(config: ConfigDict, override: str) -> None:
    path, equals, text = override.removeprefix("config.").partition("=")
    if not equals:
        raise UserError(f"--config.{path} needs a value: --config.{path}=VALUE")
    section, key = _find(config, path)
    if isinstance(section[key], ConfigDict):
        raise UserError(f"config.{path} is a section; set one of its keys: {', '.join(section[key])}")
    kind = _kind(section, key)
    try:
        _assign(section, key, _parse(text, kind))
    except (TypeError, ValueError, SyntaxError) as error:
        raise UserError(f"--config.{path} takes {_describe(kind)}, not '{text}'") from error


def _kind(section: ConfigDict, key: str) -> type:
    """The type of a field: of its value, or of the placeholder that has none yet."""
    return section.get_type(key) if section[key] is None else type(section[key])


def _assign(section: ConfigDict, key: str, value: Any) -> None:
    if isinstance(section[key], ConfigDict) and not isinstance(value, Mapping):
        raise TypeError("a section")
    if value is None:
        _take_back(section, key)
        return
    if isinstance(section[key], float) and section.get_type(key) is int:
        # A value computed from a whole number (0.1 * batch_size / 256) keeps the type of what it was computed from and
        # would refuse a float: what is set outright replaces the computation.
        del section[key]
    section[key] = value
    other = _other_unit(key)
    if other in section:
        _take_back(section, other)


def _take_back(section: ConfigDict, key: str) -> None:
    """None, which keeps the type: else the command line could set the field to text only."""
    if section[key] is not None:
        kind = type(section[key])
        del section[key]
        section[key] = config_dict.placeholder(kind)


def _other_unit(key: str) -> str:
    """`num_steps` for `num_epochs` and the other way round: setting one takes the other back."""
    for unit, other in (("_epochs", "_steps"), ("_steps", "_epochs")):
        if key.endswith(unit):
            return key.removesuffix(unit) + other
    return ""


def _parse(text: str, kind: type) -> Any:
    if text.lower() in ("none", "null"):
        return None
    if kind is bool:
        words = {"true": True, "1": True, "false": False, "0": False}
        if text.lower() not in words:
            raise ValueError(text)
        return words[text.lower()]
    if kind is int:
        return int(text.replace("_", ""))
    if kind is float:
        value = float(text)
        _check_finite(value)
        return value
    if kind is tuple:
        if re.fullmatch(r"[A-Za-z_*/~][\w*?/.:~\[\]-]*(,[A-Za-z_*/~][\w*?/.:~\[\]-]*)*", text):
            return tuple(text.split(","))
        value = ast.literal_eval(text)
        items = tuple(value) if isinstance(value, (tuple, list)) else (value,)
        _check_finite(items)
        return items
    return text


def _check_finite(value: Any) -> None:
    """Raises ValueError for a number that is not finite, however deep in tuples."""
    if isinstance(value, (tuple, list)):
        for item in value:
            _check_finite(item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(value)


def _describe(kind: type) -> str:
    return {bool: "True or False", int: "a whole number", float: "a number", tuple: "a tuple such as (1, 2)"}.get(
        kind, "text"
    )
