"""Likely causes of a divergence, the likeliest first, each with what it is concluded from and what to try."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

Cause = dict[str, str]

# Growth from one end of something to the other that is taken for a sign. Judgement, not measurement.
GROWN = 10.0
THROUGH_LAYERS = 100.0
LARGE_UPDATE = 0.3
MANY_LAYERS = 30


def of(found: Mapping[str, Any], config: Mapping[str, Any]) -> list[Cause]:
    """The causes that something in a report speaks for.

    Args:
        found: the report.
        config: of the run, as JSON's types.
    """
    if found["where"] is None and "not_looked_at" in found:
        return [
            _cause(
                "not known: the evaluation's loss is not finite, the running statistics are",
                f"layers are not looked at under the protocol {found['not_looked_at']}",
                "evaluate with eval.protocol=single_crop, under which they are; try a lower schedule.learning_rate",
            )
        ]
    if found["where"] is None or found.get("diverges_again") is False:
        return [
            _cause(
                "the step does not repeat: a fault of the hardware, or operations that are not deterministic",
                "from the same state and the same batch the same step is finite this time",
                "start the same command again; if it happens on one machine only, look at its memory; on a GPU, "
                "train.deterministic=True makes steps repeat",
            )
        ]
    rules = (_bad_images, _rate, _through_layers, _plain, _loss, _statistics, _half)
    causes = [cause for rule in rules if (cause := rule(found, config)) is not None]
    return causes or [
        _cause(
            "none of the causes that are looked for",
            "neither images, norms nor layers show anything before it",
            "look at the table of layers; try a lower schedule.learning_rate or train.clip_norm",
        )
    ]


def _cause(cause: str, evidence: str, remedy: str) -> Cause:
    return {"cause": cause, "evidence": evidence, "try": remedy}


def _bad_images(found: Mapping[str, Any], config: Mapping[str, Any]) -> Cause | None:
    constant = [example["index"] for example in found.get("examples", []) if example.get("constant")]
    if found["where"] != "input":
        return None
    positions = found["not_finite_examples"].get(found["layer"], []) if "not_finite_examples" in found else []
    indices = [found["examples"][position]["index"] for position in positions]
    same = " (of one colour)" if set(indices) & set(constant) else ""
    return _cause(
        f"bad images: {_few(indices)}{same}",
        f"after data.normalization={config['data']['normalization']} they hold infinity or NaN",
        "python -m dnn_research.tools.data verify; data.damaged=skip, another data.normalization, or less of "
        "data.augment",
    )


def _rate(found: Mapping[str, Any], config: Mapping[str, Any]) -> Cause | None:
    """Norms that grow over the steps, or updates as large as what they update."""
    history = [step for step in found["history"] if step["step"] < found["step"]]
    signs = []
    for name in ("gradient_norm", "parameter_norm"):
        values = [step[name] for step in history]
        values += [found[name]] if name in found else []
        if len(values) > 1 and values[-1] > GROWN * values[0]:
            signs.append(f"the {name.replace('_', ' ')} grew from {values[0]:.3g} to {values[-1]:.3g}")
    shares = [step["update_norm"] / step["parameter_norm"] for step in history if step["parameter_norm"]]
    if shares and shares[-1] > LARGE_UPDATE:
        signs.append(f"the last update was {shares[-1]:.3g} times the parameters")
    largest = max(
        (
            (leaf["update"]["norm"] / leaf["parameter"]["norm"], leaf["layer"])
            for leaf in found["parameters"]
            if leaf["parameter"]["norm"] and math.isfinite(leaf["update"]["norm"])
        ),
        default=(0.0, ""),
    )
    if found["where"] in ("update", "update norm", "updated norm") and not signs:
        signs.append(f"the update itself is beyond float32, {largest[0]:.3g} times the parameters in {largest[1]}")
    if not signs:
        return None
    rate = found["learning_rate"] or (history[-1]["learning_rate"] if history else None)
    lower = f"schedule.learning_rate a tenth (it was {rate:g} there)" if rate else "a lower schedule.learning_rate"
    return _cause("the learning rate is too high", "; ".join(signs), f"{lower}, a warmup, or train.clip_norm")


def _through_layers(found: Mapping[str, Any], config: Mapping[str, Any]) -> Cause | None:
    """Activations that grow from layer to layer."""
    sound = []
    for layer in found["layers"]:
        if layer["not_finite"]:
            break
        if layer["std"] > 0:
            sound.append(layer)
    if found["where"] not in ("forward", "loss") or len(sound) < 3:
        return None
    growth = sound[-1]["std"] / sound[0]["std"]
    if growth < THROUGH_LAYERS:
        return None
    normalized = any("bn" in layer["layer"].rpartition("/")[2] for layer in found["layers"])
    remedy = (
        "a lower schedule.learning_rate, or weight decay on what grew" if normalized else
        "batch normalization, residual blocks, or initial values that keep the variance"
    )  # fmt: skip
    return _cause(
        "activations grow from layer to layer",
        f"their standard deviation grew {growth:.3g} times from {sound[0]['layer']} to {sound[-1]['layer']}",
        remedy,
    )


def _plain(found: Mapping[str, Any], config: Mapping[str, Any]) -> Cause | None:
    """Gradients that grow towards the first layers: of deep plain networks with batch normalization.

    Yang, Pennington, Rao, Sohl-Dickstein, Schoenholz 2019, "A Mean Field Theory of Batch Normalization": they grow
    exponentially with depth, whatever the initial values, and shortcuts tame them.
    """
    kernels = [leaf["gradient"]["norm"] for leaf in found["parameters"] if leaf["name"].endswith("kernel")]
    kernels = [norm for norm in kernels if math.isfinite(norm) and norm > 0]
    if len(kernels) < MANY_LAYERS:
        return None
    tenth = len(kernels) // 10
    ratio = (sum(kernels[:tenth]) / tenth) / (sum(kernels[-tenth:]) / tenth)
    if ratio < GROWN:
        return None
    return _cause(
        "a deep network whose gradients grow towards its first layers",
        f"over {len(kernels)} kernels they are {ratio:.3g} times as large in the first tenth as in the last",
        "model.residual=True, fewer layers, a warmup, or train.clip_norm",
    )


def _loss(found: Mapping[str, Any], config: Mapping[str, Any]) -> Cause | None:
    if found["where"] != "loss":
        return None
    last = found["layers"][-1] if found["layers"] else None
    size = f"the outputs of {last['layer']} reach {last['largest']:.3g}" if last else "all layers are finite"
    return _cause(
        "the loss itself: a logarithm of zero, or a square or exponential beyond float32",
        size,
        "smaller outputs (lower schedule.learning_rate, weight decay), task.label_smoothing=0, or smaller loss weights",
    )


def _statistics(found: Mapping[str, Any], config: Mapping[str, Any]) -> Cause | None:
    if found["where"] != "statistics":
        return None
    return _cause(
        f"running statistics that evaluation normalizes by are beyond float32 ({found['layer']})",
        "in training the batch's own statistics hide it",
        "a lower schedule.learning_rate: activations whose squares overflow have grown",
    )


def _half(found: Mapping[str, Any], config: Mapping[str, Any]) -> Cause | None:
    if config["train"]["dtype"] == "float32":
        return None
    return _cause(
        f"computing in {config['train']['dtype']}: its range is float32's, but of 8 bits small differences vanish",
        f"train.dtype={config['train']['dtype']}",
        "train.dtype=float32 for the same steps, to tell it from the rest",
    )


def _few(indices: Sequence[int]) -> str:
    shown = ", ".join(map(str, indices[:8]))
    return f"{shown} and {len(indices) - 8} more" if len(indices) > 8 else shown or "of this batch"
