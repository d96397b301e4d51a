"""Imports a file of weights as a work directory, exports a run's weights, certifies what a work directory holds."""

import dataclasses
import hashlib
import json
import platform
import zlib
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from dnn_research import checkpoint, models, record
from dnn_research.errors import UserError, choose
from dnn_research.recipe import load, plain
from dnn_research.weights import comparison, conventions, files

Say = Callable[[str], None]

CERTIFICATE = "certificate.json"


@dataclasses.dataclass(frozen=True)
class Import:
    """What is imported from where.

    Attributes:
        file: of weights.
        lineage: a key of `conventions.CONVENTIONS`.
        config: FILE[:WORD,...], the recipe whose network the weights are for.
        overrides: such as `config.model.depth=50`.
        workdir: the work directory to make.
        mean, std: in 0..255, where the weights were trained on others than the lineage's; None for the lineage's.
        channels: `rgb` or `bgr`, likewise.
    """

    file: Path
    lineage: str
    config: str
    overrides: Sequence[str]
    workdir: Path
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channels: str | None = None


def import_weights(wanted: Import, say: Say) -> None:
    """Makes a work directory like a run's, with the network, the input's normalization and checkpoint 0.

    Raises:
        UserError: anything does not fit; then nothing is written.
    """
    if wanted.workdir.exists():
        raise UserError(f"{wanted.workdir} exists; give a --workdir that does not")
    given = {override.removeprefix("config.").partition("=")[0] for override in wanted.overrides}
    recipe = load(wanted.config, wanted.overrides)
    name = recipe.config.model.name
    defaults = {field.name: field.default for field in dataclasses.fields(choose(models.MODELS, name, "network"))}
    convention = conventions.convention(wanted.lineage, name)
    convention = dataclasses.replace(
        convention,
        mean=wanted.mean or convention.mean,
        std=wanted.std or convention.std,
        channels=wanted.channels or convention.channels,
    )
    arrays = files.read(wanted.file)
    settings = {f"model.{field}": value for field, value in convention.fields(arrays).items()}
    settings |= {"data.mean": tuple(convention.mean), "data.std": tuple(convention.std), "data.channels": 3}
    settings |= {"data.normalization": "channel"}
    config = recipe.config.copy_and_resolve_references()
    with config.unlocked():
        for path, value in settings.items():
            section, key = path.split(".")
            if section == "model" and key not in config.model and value == defaults[key]:
                continue
            if path in given and config[section][key] != value:
                raise UserError(f"the weights call for {path}={value}, not {config[section][key]}; leave it out")
            config[section][key] = value
        # There is no average in the file.
        config.train.ema_decay = 0.0
        config.checkpoint.best_metric = config.checkpoint.best_metric.replace("eval_ema/", "eval/")
        classes = _classes(convention, {**defaults, **config.model.to_dict()}, arrays)
        if config.model.num_classes is None:
            config.model.num_classes = classes
    fields = config.model.to_dict()
    network = models.create(**fields)
    every_field = _every_field(network)
    size = _image_size(config.to_dict())
    shapes = {"/".join(path): leaf.shape for path, leaf in _flat(models.shapes(network, (size, size, 3))).items()}
    try:
        conventions.check_form(convention, every_field, arrays, hint="; the recipe has a word for it")
        ours = conventions.to_ours(convention, every_field, arrays, shapes)
    except UserError as error:
        raise UserError(f"{wanted.file}: {error}; nothing was written") from error

    tree = traverse_util.unflatten_dict(ours, sep="/")
    digest = files.sha256(wanted.file)
    source = {
        "file": wanted.file.name,
        "sha256": digest,
        "lineage": wanted.lineage,
        "arrays": len(arrays),
        "left_out": sorted(set(arrays) - {entry.theirs for entry in convention.entries(every_field)}),
        "channels": convention.channels,
        "mean": list(convention.mean),
        "std": list(convention.std),
        "image_size": size,
    }
    wanted.workdir.mkdir(parents=True, mode=0o700)
    described = record.describe_run(plain(config), tuple(wanted.overrides), fields["num_classes"])
    (wanted.workdir / "run.json").write_text(json.dumps({**described, "imported": source}, indent=1) + "\n")
    policy = checkpoint.Policy(1, config.checkpoint.best_metric)
    with checkpoint.Writer(wanted.workdir / "checkpoints", policy, say) as writer:
        state = {
            "step": np.zeros((), np.int32),
            "params": tree["params"],
            "model_state": {"batch_stats": tree["batch_stats"]} if "batch_stats" in tree else {},
            "ema": {},
        }
        writer.save(0, state, {}, {})
    count = sum(array.size for path, array in ours.items() if path.startswith("params/"))
    say(f"{wanted.file.name} ({wanted.lineage}, sha256 {digest[:16]}...): {len(arrays)} arrays, {count:,} parameters")
    say(f"network: {', '.join(f'{path}={value}' for path, value in settings.items() if path.startswith('model.'))}")
    order = "turned around from BGR" if convention.channels == "bgr" else "RGB"
    say(f"input: 0..255, mean {_numbers(convention.mean)}, std {_numbers(convention.std)}, {order}")
    if source["left_out"]:
        say(f"left out, no weights: {len(source['left_out'])} arrays such as {source['left_out'][0]}")
    overrides = _as_overrides(recipe.config.to_dict(), config.to_dict())
    words = " ".join([wanted.config, *(f"--{override}" for override in wanted.overrides), *overrides])
    command = f"python -m dnn_research.main --config {words}"
    layers = [entry.ours.split("/")[1] for entry in convention.entries(every_field)]
    heads = sorted({layers[-1], *(layer for layer in layers if layer.startswith("aux"))})
    classes = f"--config.model.num_classes={fields['num_classes']}"
    start = f"--config.checkpoint.init_from={wanted.workdir} --config.checkpoint.init_exclude={','.join(heads)}"
    say(f"written: {wanted.workdir}")
    averages = recipe.config.train.ema_decay > 0
    without = f" --config.train.ema_decay=0 --config.checkpoint.best_metric={policy.best_metric}" if averages else ""
    say(f"evaluate:  {command} {classes}{without} --mode=eval --workdir {wanted.workdir}")
    say(f"fine-tune: {command} {start} --config.data.source=... --config.schedule.learning_rate=...")


def export_weights(workdir: Path, which: str, ema: bool, lineage: str, output: Path, say: Say) -> None:
    """Writes a run's network as safetensors with the names and layouts of a torch state_dict.

    Raises:
        UserError: the network has no form in that lineage, or the file exists.
    """
    run = checkpoint.read_run(workdir)
    fields = _fields(run)
    convention = conventions.convention(lineage, fields["name"])
    variables = checkpoint.load_variables(checkpoint.find(workdir, which), ema=ema)
    ours = {"/".join(path): np.asarray(leaf) for path, leaf in _flat(variables).items()}
    every_field = _every_field(models.create(**fields))
    try:
        conventions.checked_entries(convention, every_field, ours)
        theirs = conventions.to_theirs(convention, every_field, ours)
        conventions.check_form(convention, every_field, theirs)
    except (UserError, KeyError) as error:
        raise UserError(f"{workdir} has no form as {lineage}'s: {error}; nothing was written") from error
    about = {
        "network": json.dumps({key: value for key, value in fields.items() if not callable(value)}),
        **{key: json.dumps(run["config"]["data"][key]) for key in ("normalization", "mean", "std")},
        "lineage": lineage,
    }
    files.write_safetensors(output, theirs, about)
    say(f"{output}: {len(theirs)} tensors, {sum(array.size for array in theirs.values()):,} numbers, as {lineage}'s")


def certify(workdir: Path, output: Path | None, peer: comparison.Peer | None, say: Say) -> dict[str, Any]:
    """Writes what a work directory's network is and computes, so that anybody can check it.

    Args:
        output: the file to write, by default in the work directory.
        peer: the other implementation to compare every layer with, if any.

    Returns:
        The certificate: source and input convention, network, checksums of all arrays, logits of two fixed images, and
        the differences from the peer's layers on these images; a convolution whose bias went into the running mean of
        the normalization after it (Keras' ResNets) is compared at that normalization's output.

    Raises:
        UserError: the file exists, or the comparison cannot be made; then nothing is written.
    """
    path = output or workdir / CERTIFICATE
    if path.exists():
        raise UserError(f"{path} exists; remove it, or give another --output")
    run = checkpoint.read_run_of("classification", workdir, "; certificates are for classifiers")
    model, variables = checkpoint.load_network(workdir)
    data = run["config"]["data"]
    size = run.get("imported", {}).get("image_size", data["image_size"])
    images = fixed_images(2, size, data["channels"])
    compared = None
    if peer is not None:
        every_field = {**_every_field(model), "name": run["config"]["model"]["name"]}
        compared = comparison.compare(peer, run.get("imported"), model, every_field, variables, images)
    logits = np.asarray(jax.jit(lambda v, x: model.apply(v, x))(variables, jnp.asarray(images)))
    leaves = {"/".join(path): np.asarray(leaf) for path, leaf in sorted(_flat(variables).items())}
    certificate = {
        "imported": run.get("imported"),
        "network": _fields(run),
        "input": {
            "normalization": data["normalization"],
            "mean": data["mean"],
            "std": data["std"],
            "channels": "rgb" if data["channels"] == 3 else "gray",
            "range": [0, 255],
            "image_size": size,
        },
        "parameters": sum(leaf.size for path, leaf in leaves.items() if path.startswith("params/")),
        "arrays": {
            path: {"shape": list(leaf.shape), "crc32": zlib.crc32(leaf.tobytes()), "norm": float(np.linalg.norm(leaf))}
            for path, leaf in leaves.items()
        },
        "images": {
            "formula": "dnn_research.weights.bridge.fixed_images(2, image_size, channels), after normalization",
            "sha256": hashlib.sha256(images.tobytes()).hexdigest(),
        },
        "logits": {
            "sha256": hashlib.sha256(logits.tobytes()).hexdigest(),
            "largest": np.sort(logits, axis=-1)[:, ::-1][:, :5].tolist(),
            "top5": np.argsort(-logits, axis=-1)[:, :5].tolist(),
        },
        "peer": compared,
        "versions": {"python": platform.python_version(), **{n: metadata.version(n) for n in ("jax", "numpy", "flax")}},
        "device": jax.devices()[0].device_kind,
    }
    path.write_text(json.dumps(certificate, indent=1) + "\n")
    say(f"{path}: {len(leaves)} arrays, {certificate['parameters']:,} parameters; top 5 of the fixed images:")
    for top, values in zip(certificate["logits"]["top5"], certificate["logits"]["largest"], strict=True):
        say("  " + ", ".join(f"class {n} {value:.4f}" for n, value in zip(top, values, strict=True)))
    if compared is not None:
        say(_worst_layer(compared))
    return certificate


def _worst_layer(compared: Mapping[str, Any]) -> str:
    layers = compared["layers"]
    name = comparison.worst(layers)
    versions = ", ".join(f"{library} {version}" for library, version in compared["versions"].items())
    return (
        f"{len(layers)} layers compared with {compared['lineage']}'s {compared['network']} ({versions}); the farthest: "
        f"{name} ({layers[name]['theirs']}), relative difference {layers[name]['max_relative_difference']:.1e}, "
        f"absolute {layers[name]['max_abs_difference']:.1e}"
    )


def fixed_images(count: int, size: int, channels: int) -> np.ndarray:
    """float32 [count, size, size, channels] in [-2, 2), by integer arithmetic: the same on every machine.

    Pixel i in memory order is 4 * frac(i * 2654435769 / 2^32) - 2, to 16 bits.
    """
    index = np.arange(count * size * size * channels, dtype=np.uint64)
    steps = (index * np.uint64(2654435769) % np.uint64(2**32)) >> np.uint64(16)
    return (steps.astype(np.float32) * np.float32(2**-14) - np.float32(2)).reshape(count, size, size, channels)


def _every_field(network: nn.Module) -> dict[str, Any]:
    return {field.name: getattr(network, field.name) for field in dataclasses.fields(network)}


def _fields(run: Mapping[str, Any]) -> dict[str, Any]:
    fields = run["config"]["model"]
    return {**fields, "num_classes": run["num_classes"] if fields["num_classes"] is None else fields["num_classes"]}


def _classes(convention: conventions.Convention, fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> int:
    """The number of classes: the features of the last layer."""
    biases = [entry.theirs for entry in convention.entries(fields) if entry.ours.endswith("/bias")]
    if biases[-1] not in arrays:
        raise UserError(f"the file does not fit the network: '{biases[-1]}' is missing")
    return int(arrays[biases[-1]].size)


def _image_size(config: Mapping[str, Any]) -> int:
    """What the weights' first fully connected layer fits."""
    return {"alexnet": 224, "vgg": 224}.get(config["model"]["name"], config["data"]["image_size"])


def _as_overrides(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The command line's words that turn one config's model and data into another's."""
    changed = []
    for section in ("model", "data"):
        for key, value in after[section].items():
            if value != before[section].get(key) and key != "num_classes":
                text = f'"{value}"' if isinstance(value, tuple) else value
                changed.append(f"--config.{section}.{key}={text}")
    return changed


def _flat(tree: Any) -> dict[tuple[str, ...], Any]:
    return traverse_util.flatten_dict(tree)


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
