"""What every layer, gradient and update of one step is, and which is the first that is not finite."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dnn_research import data, optim, parallel
from dnn_research.models.watching import watching
from dnn_research.train import Setup, TrainState

Tree = Any
Seen = dict[str, Any]


def of_step(setup: Setup, state: TrainState, batch: Mapping[str, Any]) -> Seen:
    """Looks at one update, which is the run's own up to rounding; a batch that is worked off in parts, at each part.

    Args:
        setup: of the run, with blocks that run one by one.
        state: before the step, on the devices; it stays there.
        batch: of the step, on the devices.

    Returns:
        `layers`: name and statistics of what each layer puts out, in the order in which they are computed; `loss`;
        `parameters`, `statistics`: of each leaf, in the same order; `examples`; `learning_rate`.
    """
    names: list[str] = []
    step = parallel.on_each_device(_make_step(setup, names), layout=setup.layout, state=state)
    found = jax.device_get(step(state, batch))
    # Of a batch in parts, the first that is not finite; the statistics are its.
    bad = [bool(np.any([layer["not_finite"][part] for layer in found["layers"]])) for part in range(len(found["loss"]))]
    part = bad.index(True) if True in bad else 0
    layers = [
        {"layer": name, **{key: value[part] for key, value in layer.items()}}
        for name, layer in zip(names, found["layers"], strict=True)
    ]
    examples = [
        {
            "position": position,
            "index": int(found["index"][position]),
            **({"constant": True} if found["constant"][position] else {}),
        }
        for position in range(setup.batch_size)
    ]
    return {
        "layers": [_scalars(layer) for layer in layers],
        "part": part,
        "loss": float(np.sum(found["loss"]) / len(found["loss"])),
        "parameters": _in_order(found["parameters"], names),
        "statistics": _statistics_in_order(found["statistics"], names),
        "gradient_norm": float(found["gradient_norm"]),
        "parameter_norm": float(found["parameter_norm"]),
        "learning_rate": float(found["learning_rate"]),
        "examples": examples,
        "not_finite_examples": {
            layer["layer"]: np.flatnonzero(layer["examples"]).tolist() for layer in layers if np.any(layer["examples"])
        },
    }


def of_evaluation(setup: Setup, state: TrainState) -> Seen:
    """Looks at the running statistics, and at the network in evaluation, batch by batch, up to the first that is bad.

    Args:
        setup: of the run, with blocks that run one by one.
        state: that was evaluated, on the devices.
    """
    networks = {"eval": (state.params, {**state.model_state, **state.constants})}
    model_states = {"": state.model_state}
    if setup.training.ema_decay:
        networks["eval_ema"] = (state.ema["params"], {**state.ema["model_state"], **state.constants})
        model_states["ema/"] = state.ema["model_state"]
    statistics = [
        leaf
        for prefix, model_state in model_states.items()
        for leaf in _statistics_in_order(jax.tree.map(_on_host, jax.device_get(model_state)), [], prefix)
    ]
    seen: Seen = {"statistics": statistics, "layers": [], "parameters": []}
    protocol = data.protocols.single(setup.evaluator.protocol)
    if protocol is None:
        return seen | {"not_looked_at": setup.evaluator.protocol.description}
    for split, network in networks.items():
        names: list[str] = []
        step = parallel.on_each_device(_make_evaluation(setup, names), layout=setup.layout, state=network)
        with setup.dataset.eval_batches(protocol=protocol, batch_size=setup.evaluation.batch_size) as batches:
            for number, batch in enumerate(batches):
                found = jax.device_get(step(network, parallel.shard(batch, setup.layout)))
                layers = [
                    _scalars({"layer": name, **layer}) for name, layer in zip(names, found["layers"], strict=True)
                ]
                seen |= {"split": split, "batch": number, "layers": layers, "loss": float(found["loss"])}
                if not np.isfinite(found["loss"]) or any(layer["not_finite"] for layer in layers):
                    return seen
    return seen


def first_not_finite(seen: Seen) -> dict[str, Any]:
    """Where a step went wrong first: `where`, `layer` and a `sentence`.

    In the order in which a step computes: the layers forward, the loss, the running statistics, the gradients from the
    last layer to the first, their norm, the update, the norm of the parameters. An evaluation is given the statistics.
    """
    statistics = next((leaf for leaf in seen["statistics"] if leaf["not_finite"]), None)
    if statistics and not seen["parameters"]:
        return _finding("statistics", statistics["layer"], f"the running statistics {statistics['name']}")
    for layer in seen["layers"]:
        if layer["not_finite"]:
            if layer["layer"].endswith("input"):
                return _finding("input", layer["layer"], "the images that the network is given")
            return _finding("forward", layer["layer"], f"what {layer['layer']} puts out")
    if "loss" in seen and not np.isfinite(seen["loss"]):
        return _finding("loss", None, "the loss, of finite outputs of all layers")
    if statistics:
        return _finding("statistics", statistics["layer"], f"the running statistics {statistics['name']}")
    for leaf in reversed(seen["parameters"]):
        if leaf["gradient"]["not_finite"]:
            return _finding("gradient", leaf["layer"], f"the gradient of {leaf['name']}, going backwards")
    for key, what in (("gradient", "the gradients"), ("update", "the updates"), ("updated", "the updated parameters")):
        for leaf in seen["parameters"]:
            if leaf[key]["not_finite"]:
                return _finding("update", leaf["layer"], f"the update of {leaf['name']}")
        norms = [leaf[key]["norm"] for leaf in seen["parameters"]]
        if norms and not np.isfinite(_norm(norms)):
            leaf = seen["parameters"][int(np.argmax([leaf[key]["largest"] for leaf in seen["parameters"]]))]
            return _finding(f"{key} norm", leaf["layer"], f"the norm of {what} (float32), most of all {leaf['name']}'s")
    sentence = "looked at again, nothing in it is infinite or NaN"
    if "not_looked_at" in seen:
        sentence = f"the running statistics are finite; layers are not looked at under {seen['not_looked_at']}"
    return {"where": None, "layer": None, "sentence": sentence}


def _finding(where: str, layer: str | None, what: str) -> dict[str, Any]:
    return {"where": where, "layer": layer, "sentence": f"not finite first: {what}"}


def _norm(norms: Sequence[float]) -> float:
    with np.errstate(over="ignore"):
        return float(np.sqrt(np.sum(np.square(np.asarray(norms, np.float32)))))


# ----------------------------------------------------------------------------------------------------- compiled steps


def _make_step(setup: Setup, names: list[str]) -> Callable[[TrainState, Any], Seen]:
    """`(state, batch) -> what was seen`; `names` are filled in with the layers' while it is traced."""
    task, training, layout = setup.task, setup.training, setup.layout

    def gradient(state: TrainState, batch: Any, key: jax.Array) -> Any:
        def loss(params: Tree) -> Any:
            seen: list[Seen] = []
            names.clear()

            def note(name: str, outputs: jax.Array) -> None:
                names.append(name)
                seen.append(_statistics(outputs, batch["position"], setup.batch_size))

            with watching(task.model, note):
                value, (model_state, _) = task.loss(params, {**state.model_state, **state.constants}, batch, key)
            return value, (value, model_state, seen)

        return jax.grad(loss, has_aux=True)(state.params)

    def step(state: TrainState, batch: Any) -> Seen:
        key = parallel.step_key(state.seed, state.step)
        count = training.accumulate_steps
        parts = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), batch)

        def part(total: Tree, piece: Any) -> Any:
            grads, found = gradient(state, piece, key)
            return jax.tree.map(jnp.add, total, grads), found

        total, (losses, model_state, layers) = lax.scan(part, jax.tree.map(jnp.zeros_like, state.params), parts)
        grads = parallel.mean_gradient(jax.tree.map(lambda g: g / count, total), layout)
        learning_rate = setup.schedule(state.step) * state.plateau["scale"]
        update, _ = setup.optimizer.update(grads, state.opt_state, state.params, learning_rate=learning_rate)
        updates = jax.tree.map(lambda d: update.factor * d, update.direction)
        updated = update.added_to(state.params)
        trees = {"parameter": state.params, "gradient": grads, "update": updates, "updated": updated}
        images = batch["image"].reshape(len(batch["position"]), -1)
        places = jnp.zeros(setup.batch_size, jnp.int32).at[batch["position"]]
        return {
            "layers": layers,
            "loss": parallel.mean(losses),
            "parameters": {key: _leaves(tree, layout) for key, tree in trees.items()},
            "statistics": _leaves(parallel.mean(jax.tree.map(lambda s: s[-1], model_state)), parallel.WHOLE),
            "gradient_norm": parallel.norm(grads, optim.global_norm, layout),
            "parameter_norm": parallel.norm(state.params, optim.global_norm, layout),
            "learning_rate": learning_rate,
            "index": parallel.maximum(places.set(batch["index"])),
            "constant": parallel.maximum(places.set((images == images[:, :1]).all(1).astype(jnp.int32))),
        }

    return step


def _make_evaluation(setup: Setup, names: list[str]) -> Callable[[Any, Any], Seen]:
    """`((params, model_state), batch) -> what was seen` of the network in evaluation."""

    def step(network: Any, batch: Any) -> Seen:
        params, model_state = network
        seen: list[Seen] = []
        names.clear()

        def note(name: str, outputs: jax.Array) -> None:
            names.append(name)
            seen.append(_statistics(outputs, batch["position"], setup.evaluation.batch_size))

        with watching(setup.task.model, note):
            sums = setup.task.evaluate(params, model_state, batch)
        return {"layers": seen, "loss": parallel.total(sums["loss"], setup.layout)}

    return step


def _statistics(outputs: jax.Array, position: jax.Array, size: int) -> Seen:
    """Of an array [B, ...] over all devices; `mean`, `std`, `largest` (of the absolute values) are of what is finite.

    `examples` [size] says which examples of the global batch have values that are not.
    """
    values = lax.stop_gradient(outputs).astype(jnp.float32)
    finite = jnp.isfinite(values)
    values = jnp.where(finite, values, 0.0)
    largest = parallel.maximum(jnp.abs(values).max())
    # Squares of what is left to see may be beyond float32.
    scale = jnp.maximum(largest, jnp.finfo(jnp.float32).tiny)
    count = jnp.maximum(parallel.total(finite.sum(dtype=jnp.float32)), 1.0)
    mean = parallel.total((values / scale).sum()) / count
    square = parallel.total(jnp.square(values / scale).sum()) / count
    examples = jnp.zeros(size, jnp.int32)
    if values.shape[0] == position.shape[0]:
        examples = examples.at[position].set((~finite).reshape(len(position), -1).any(1).astype(jnp.int32))
    return {
        "not_finite": parallel.total((~finite).sum(dtype=jnp.float32)),
        "mean": mean * scale,
        "std": jnp.sqrt(jnp.maximum(square - jnp.square(mean), 0.0)) * scale,
        "largest": largest,
        "examples": parallel.maximum(examples),
    }


def _leaves(tree: Tree, layout: parallel.Layout) -> Tree:
    """For each leaf, how many values are not finite, the norm, and the largest absolute value that is finite."""

    def look(path: tuple[Any, ...], leaf: jax.Array) -> Seen:
        finite = jnp.isfinite(leaf)
        # As many devices hold the same values.
        copies = parallel.device_count() // (1 if layout.axis_of(path) is None else layout.towers)
        alone: Tree = leaf
        for entry in reversed(path):
            alone = {entry.key: alone}
        return {
            "not_finite": parallel.total((~finite).sum(dtype=jnp.float32)) / copies,
            "norm": parallel.norm(alone, optim.global_norm, layout),
            "largest": parallel.maximum(jnp.abs(jnp.where(finite, leaf, 0.0)).max()),
        }

    return jax.tree_util.tree_map_with_path(look, tree)


# ---------------------------------------------------------------------------------------------------------- on the host


def _on_host(leaf: np.ndarray) -> Seen:
    finite = np.isfinite(leaf)
    return {
        "not_finite": float((~finite).sum()),
        "norm": _norm(leaf.ravel().tolist()),
        "largest": float(np.abs(np.where(finite, leaf, 0)).max()),
    }


def _scalars(layer: Seen) -> Seen:
    return {key: value if isinstance(value, str) else float(value) for key, value in layer.items() if key != "examples"}


def _flat(tree: Tree) -> dict[str, Seen]:
    """Path of a leaf -> its statistics, of a tree of such."""
    leaves: dict[str, Seen] = {}
    for path, value in jax.tree_util.tree_leaves_with_path(tree):
        *where, key = (entry.key for entry in path)
        leaves.setdefault("/".join(where), {})[key] = float(value)
    return leaves


def _in_order(trees: Mapping[str, Tree], names: Sequence[str]) -> list[Seen]:
    """The parameters in the order of their layers, with what each tree has of them."""
    flat = {what: _flat(tree) for what, tree in trees.items()}
    return [
        {"name": name, "layer": _layer(name), **{what: leaves[name] for what, leaves in flat.items()}}
        for name in sorted(next(iter(flat.values())), key=_places(names))
    ]


def _statistics_in_order(model_state: Tree, names: Sequence[str], prefix: str = "") -> list[Seen]:
    """The running statistics in the order of their layers; their names are without that of the collection."""
    leaves = {path.partition("/")[2]: values for path, values in _flat(model_state).items()}
    return [
        {"name": prefix + name, "layer": _layer(name), **leaves[name]} for name in sorted(leaves, key=_places(names))
    ]


def _layer(leaf: str) -> str:
    return leaf.rpartition("/")[0]


def _places(names: Sequence[str]) -> Callable[[str], int]:
    place = {name: number for number, name in enumerate(names)}
    return lambda leaf: place.get(_layer(leaf), len(place))
