"""The training loop: what happens in a run, in the order in which it happens."""

import collections
import dataclasses
import fnmatch
import functools
import math
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import FrameType
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from dnn_research import checkpoint, confusion, data, evaluation, metrics, optim, parallel, process, record, tasks
from dnn_research.errors import Diverged, Interrupted, UserError, choose, construct
from dnn_research.recipe import EXECUTION, Recipe, differences, flatten, identity, plain, refuse
from dnn_research.tasks.task import Task

# A step's report is looked at this many steps later, so that the devices never wait for the host.
LAG = 2


@dataclasses.dataclass(frozen=True)
class Training:
    """The section `train` of a recipe.

    Attributes:
        num_epochs, num_steps: the length of the run; exactly one is given.
        batch_norm_axis: None: batch normalization over each device's own examples, as the papers trained; `batch`: over
            the examples of all devices. Running statistics are averaged over devices either way; the mean of local
            variances leaves out the variance between the devices' means, so it is a little smaller.
        dtype: what the network computes in, float32 or bfloat16; parameters, statistics and loss are float32.
        ema_decay: decay of a moving average of parameters and statistics, kept beside them; 0 keeps none.
        accumulate_steps: a device's share of the batch is worked off in so many parts; batch normalization sees a part
            at a time, and its running statistics move once for each.
        clip_norm: gradients of a larger global norm are scaled down to it; None for no limit.
        freeze: patterns of names of layers or parameters (`conv1`, `stage[23]`, `*/bias`; `*` matches anything) that
            keep their values; batch normalization whose scale is frozen uses its running statistics and keeps them.
        learning_rate_factors: (pattern, factor) pairs; the first that matches multiplies a parameter's rate.
        deterministic: a GPU takes only operations that give the same bits each time; other devices always do.
    """

    dtype: str
    batch_norm_axis: str | None
    num_epochs: float | None = None
    num_steps: int | None = None
    ema_decay: float = 0.0
    accumulate_steps: int = 1
    clip_norm: float | None = None
    freeze: tuple[str, ...] = ()
    learning_rate_factors: tuple[Any, ...] = ()
    deterministic: bool = False

    def __post_init__(self) -> None:
        if self.batch_norm_axis not in (None, parallel.AXIS):
            raise UserError(f"train.batch_norm_axis is None or '{parallel.AXIS}', not '{self.batch_norm_axis}'")
        if not 0 <= self.ema_decay < 1:
            raise UserError(f"train.ema_decay must be in [0, 1), not {self.ema_decay}")
        if self.accumulate_steps < 1:
            raise UserError(f"train.accumulate_steps must be at least 1, not {self.accumulate_steps}")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise UserError(f"train.clip_norm must be positive or None, not {self.clip_norm}")
        for pair in self.learning_rate_factors:
            known = isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)
            if not (known and isinstance(pair[1], (int, float)) and pair[1] >= 0):
                raise UserError(f"train.learning_rate_factors holds (pattern, factor >= 0) pairs, not {pair!r}")

    def frozen(self, name: str) -> bool:
        """Whether a parameter keeps its value; its name is its path, such as 'stage2/block1/conv1/kernel'."""
        return any(_matches(pattern, name) for pattern in self.freeze)

    def learning_rate_factor(self, name: str) -> float:
        """What multiplies a parameter's learning rate; 0 for a frozen one."""
        factors = (factor for pattern, factor in self.learning_rate_factors if _matches(pattern, name))
        return 0.0 if self.frozen(name) else next(factors, 1.0)

    @property
    def splits(self) -> tuple[str, ...]:
        """What is evaluated: the parameters and, where it is kept, their moving average."""
        return ("eval", "eval_ema") if self.ema_decay else ("eval",)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The section `eval`: protocol, images at a time (any number), and how often: exactly one of epochs and steps.

    `resize`, `scales`, `flip` and `multiple` are the protocol's, see `data.protocols.create`.
    """

    protocol: str
    resize: int | None
    scales: tuple[int, ...] | None
    flip: bool | None
    multiple: int | None
    batch_size: int
    every_epochs: float | None = None
    every_steps: int | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"eval.batch_size must be at least 1, not {self.batch_size}")


@dataclasses.dataclass(frozen=True)
class Checkpointing:
    """The section `checkpoint`: how often (exactly one of epochs and steps), which stay, what to start from.

    `init_from` is another run's work directory or checkpoint; layers named in `init_exclude` keep their fresh values.
    """

    keep: int
    every_epochs: float | None = None
    every_steps: int | None = None
    best_metric: str = "eval/top1_accuracy"
    init_from: str | None = None
    init_exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise UserError(f"checkpoint.keep must be at least 1, not {self.keep}")


@flax.struct.dataclass
class TrainState:
    """All that a run is at a step; equal on all devices.

    Attributes:
        step: number of updates done.
        seed: of the run; in the state, not in the program, so that all seeds share one compiled step.
        params, model_state, opt_state: of network and optimizer.
        ema: {"params", "model_state"} averaged, or {}.
        plateau: `optim.Plateau`'s state; its scale is 1 where no plateau rule is used.
        sums: of metrics since they were last recorded.
        constants: the task's, which are not saved.
    """

    step: Any
    seed: Any
    params: Any
    model_state: Any
    opt_state: Any
    ema: Any
    plateau: Any
    sums: Any
    constants: Any


@dataclasses.dataclass(frozen=True)
class Every:
    """True at the steps that end another period (in steps, need not be whole), and at the last step of all."""

    period: Fraction
    total_steps: int

    def __call__(self, step: int) -> bool:
        return step == self.total_steps or math.floor(step / self.period) > math.floor((step - 1) / self.period)


@dataclasses.dataclass(frozen=True)
class Setup:
    """A recipe, made into the things that its sections name."""

    dataset: data.Dataset
    task: Task
    evaluator: evaluation.Evaluator
    layout: parallel.Layout
    optimizer: optim.Optimizer
    schedule: optim.Schedule
    plateau: optim.Plateau | None
    training: Training
    evaluation: Evaluation
    checkpointing: Checkpointing
    recording: record.Options
    batch_size: int
    seed: int
    steps_per_epoch: Fraction
    total_steps: int
    recording_due: Every
    evaluation_due: Every
    saving_due: Every


def set_up(recipe: Recipe, workdir: Path | None = None) -> Setup:
    """Builds everything that a recipe names; whatever is wrong with it is said here, before anything is written.

    Statistics of the training split are those of the run in `workdir`, if there is one.
    """
    config = recipe.config.to_dict()
    training = construct(Training, "config.train", config["train"])
    evaluating = construct(Evaluation, "config.eval", config["eval"])
    checkpointing = construct(Checkpointing, "config.checkpoint", config["checkpoint"])
    recording = construct(record.Options, "config.record", config["record"])
    for key in ("batch_size", "seed"):
        if config[key] is None or not 0 <= config[key] < 2**32:
            raise UserError(f"{key} must be a whole number from 0 to 2**32 - 1, not {config[key]}")
    if config["batch_size"] == 0:
        raise UserError("batch_size must be positive, not 0")
    dataset = construct(data.create, "config.data", config["data"], workdir=workdir)
    protocol = data.protocols.create(
        name=evaluating.protocol,
        image_size=config["data"]["image_size"],
        resize=evaluating.resize,
        scales=evaluating.scales,
        flip=evaluating.flip,
        multiple=evaluating.multiple,
    )
    steps_per_epoch = Fraction(dataset.num_train, config["batch_size"])
    total_steps = round(optim.duration("train.num", training.num_epochs, training.num_steps, steps_per_epoch))
    if total_steps < 1:
        raise UserError(
            f"the run would have no steps: {training.num_epochs} epochs of {float(steps_per_epoch):.3g} steps"
        )
    length = optim.Length(steps_per_epoch, total_steps)
    schedule, plateau = construct(optim.create_schedule, "config.schedule", config["schedule"], length=length)
    optimizer = construct(
        optim.create_optimizer,
        "config.optimizer",
        config["optimizer"],
        clip_norm=training.clip_norm,
        factor=training.learning_rate_factor if training.freeze or training.learning_rate_factors else None,
    )
    task = tasks.create(
        config["task"],
        model=config["model"],
        train=config["train"],
        dataset=dataset,
        axis=parallel.AXIS,
        frozen=training.frozen if training.freeze else None,
    )
    _check_patterns(training, task)
    confused = task.classifier is not None and dataset.num_classes <= recording.confusion_classes
    evaluator = evaluation.Evaluator(dataset, protocol, [task], evaluating.batch_size, confusion=confused)
    # Frozen layers and those with rates of their own are known by their names, and lars takes a norm of each parameter.
    one_by_one = training.freeze or training.learning_rate_factors or config["optimizer"]["name"] == "lars"
    layout = parallel.Layout(task.towers, task.tower_axes, {} if one_by_one else task.stacks)
    parallel.check_layout(layout)
    parallel.check_divides(config["batch_size"], "batch_size", layout)
    share = config["batch_size"] // (parallel.device_count() // layout.towers)
    if share % training.accumulate_steps:
        raise UserError(f"train.accumulate_steps={training.accumulate_steps} does not divide a device's {share} images")
    if layout.towers > 1 and (training.clip_norm or config["optimizer"]["name"] == "lars"):
        raise UserError("train.clip_norm and the optimizer lars need norms that no tower knows; take model.towers=1")
    watched = {"checkpoint.best_metric": checkpointing.best_metric}
    if plateau:
        watched["schedule.metric"] = plateau.metric
    for field, metric in watched.items():
        if metric.startswith("eval_ema/") and not training.ema_decay:
            raise UserError(
                f"{field} is {metric}, of the moving average, which train.ema_decay=0 leaves out: take "
                f"{metric.replace('eval_ema', 'eval')}"
            )
        choose({f"{split}/{name}": name for split in training.splits for name in task.names}, metric, field)
    if recording.profile_steps and recording.profile_steps[0] > total_steps:
        raise UserError(f"record.profile_steps {recording.profile_steps} begins after the run's {total_steps} steps")

    def every(name: str, section: Evaluation | Checkpointing) -> Every:
        return Every(optim.duration(name, section.every_epochs, section.every_steps, steps_per_epoch), total_steps)

    return Setup(
        dataset, task, evaluator, layout, optimizer, schedule, plateau, training, evaluating, checkpointing, recording,
        config["batch_size"], config["seed"], steps_per_epoch, total_steps,
        recording_due=Every(Fraction(recording.every_steps), total_steps),
        evaluation_due=every("eval.every", evaluating),
        saving_due=every("checkpoint.every", checkpointing),
    )  # fmt: skip


def train(
    recipe: Recipe, workdir: Path, compiled: "CompiledSteps | None" = None, signals: "Interruption | None" = None
) -> dict[str, float]:
    """Trains a recipe in a work directory, from where it stands there, to the end.

    Args:
        compiled: the steps of another run of this process, taken over if that differs in nothing but the seed.
        signals: who takes SIGTERM and SIGINT, for a caller that goes on after the run: one that comes after the last
            step changes nothing here.

    Returns:
        The results of the last evaluation, as `split/name`.

    Raises:
        UserError: something that the user can mend.
        Diverged: a loss or gradient that is not finite.
        Interrupted: SIGTERM or SIGINT came; the state is saved.
    """
    setup = set_up(recipe, workdir)
    config = plain(recipe.config)
    repeats = process.repeats(jax.default_backend(), deterministic=setup.training.deterministic)
    if (workdir / "run.json").exists():
        _refuse_other_run(workdir, config, "the run of another config; give another --workdir, or the same config")
        _refuse_other_facts(workdir, setup.task)
    workdir.mkdir(parents=True, exist_ok=True, mode=0o700)

    with (
        record.Recorder(workdir, setup.recording, primary=parallel.is_primary()) as recorder,
        signals or Interruption() as signals,
    ):
        say = recorder.say
        directory = workdir / "checkpoints"
        policy = checkpoint.Policy(setup.checkpointing.keep, setup.checkpointing.best_metric)

        state, manifest = starting_state(setup, directory, say)
        if manifest is not None:
            _refuse_foreign(directory / str(manifest.step), manifest.records, _origin(setup, config))
        start = int(state.step)
        parallel.check_equal(start, f"all hosts must see one work directory, and {directory} ends at different steps")
        if start >= setup.total_steps and manifest is not None:
            say(f"{workdir} holds the finished run of {start:,} steps; nothing is left to do.")
            _say_end(say, recipe, workdir, manifest.results, manifest.conditions, start)
            say(setup.task.sentence(of_split(manifest.results, "eval")))
            return dict(manifest.results)

        if manifest is not None:
            _say_other_repeats(say, workdir, repeats)
        # Before run.json: where that is, they are.
        if manifest is None and parallel.is_primary():
            setup.dataset.save_statistics(workdir)
        recorder.start(
            record.describe_run(
                config,
                recipe.overrides,
                setup.dataset.num_classes,
                setup.dataset.class_names,
                setup.task.facts,
                repeats,
            ),
            step=start,
            total_steps=setup.total_steps,
            batch_size=setup.batch_size,
            records=manifest.records if manifest else {},
        )
        _say_start(say, recipe, setup, workdir, state, start)

        layout = setup.layout
        train_step, evaluator = (compiled or CompiledSteps()).of(setup, config, state)
        setup = dataclasses.replace(setup, evaluator=evaluator)
        state = parallel.replicate(state, layout)
        recording_due, evaluation_due, saving_due = setup.recording_due, setup.evaluation_due, setup.saving_due
        timer = record.Timer()
        reports: collections.deque[tuple[int, Any]] = collections.deque()
        last_recorded, results = start, dict(manifest.results) if manifest else {}
        replaced: collections.Counter[str] = collections.Counter()

        def look(report: tuple[int, Any]) -> dict[str, float]:
            """Stops the run at a loss or gradient that is not finite; else the report as numbers."""
            step, values = report[0], {name: np.asarray(value).item() for name, value in report[1].items()}
            if not values.pop("finite"):
                writer.wait()
                raise Diverged(_divergence("the loss, a gradient or a parameter", step, values, directory), step)
            recorder.progress(step, setup.task.brief(setup.task.finish(values)))
            replaced["since recorded"] += values.get("replaced", 0)
            replaced["in all"] += values.get("replaced", 0)
            return values

        def save(step: int, results: Mapping[str, float]) -> None:
            """Starts to save the state after `step`, with the results of its evaluation, if there was one."""
            measured = dict(results) if evaluation_due(step) else {}
            under = dataclasses.asdict(setup.evaluator.conditions) if measured else {}
            kept = parallel.whole(state, layout).replace(constants={})
            writer.save(step, kept, measured, {**recorder.position(), **_origin(setup, config)}, under)

        with (
            checkpoint.Writer(directory, policy, say) as writer,
            record.Profiler(setup.recording.profile_steps, workdir / "tensorboard") as profiler,
            setup.dataset.train_batches(
                batch_size=setup.batch_size,
                seed=setup.seed,
                start_step=start,
                process_index=jax.process_index(),
                process_count=jax.process_count(),
            ) as batches,
        ):
            for step in range(start + 1, setup.total_steps + 1):
                profiler.before(step)
                waiting = time.perf_counter()
                try:
                    batch = next(batches)
                except UserError as error:
                    # The other processes may have their batches, and would not save.
                    if step == start + 1 or jax.process_count() > 1:
                        raise
                    while reports:
                        look(reports.popleft())
                    if not saving_due(step - 1):
                        save(step - 1, results)
                    writer.wait()
                    saved = directory / str(step - 1)
                    raise UserError(f"{error}; saved at step {step - 1:,} in {saved}") from error
                timer.wait(time.perf_counter() - waiting)
                if step == 1 and setup.recording.images:
                    recorder.images("training_images", batch["image"][: setup.recording.images], 0)

                batch = with_update_norm(signals.told_in(batch), due=recording_due(step))
                state, report = train_step(state, parallel.shard(batch, layout))

                profiler.after(step, state)
                reports.append((step, report))
                # Asked once: a signal that comes later in this step is for the next one. Processes must stop at the
                # same step: each puts what it got into its batch, and all find it in the same report.
                pausing = recording_due(step) or evaluation_due(step) or saving_due(step)
                interrupted = signals.received if jax.process_count() == 1 else 0
                values = {}
                while reports and (pausing or interrupted or len(reports) > LAG):
                    values = look(reports.popleft())
                    interrupted = interrupted or int(values.pop("signal", 0))
                if step == start + 1:
                    # The first step compiles; it would spoil the rates.
                    timer.lap(1, setup.batch_size)
                if recording_due(step):
                    epoch = round(float(step / setup.steps_per_epoch), 4)
                    line = {"step": step, "epoch": epoch, "split": "train", **setup.task.finish(values)}
                    line |= {name: values[name] for name in ("learning_rate", "gradient_norm")}
                    recorder.metrics(line)
                    recorder.norms(step, {n: values[n] for n in ("gradient_norm", "parameter_norm", "update_norm")})
                    steps = step - max(last_recorded, start + 1)
                    if steps:
                        skipping = setup.dataset.skip_damaged
                        counted = {"damaged_replaced": replaced.pop("since recorded", 0)} if skipping else {}
                        recorder.timing({"step": step, **timer.lap(steps, steps * setup.batch_size), **counted})
                    last_recorded = step
                pause = time.perf_counter()
                if evaluation_due(step):
                    results = _evaluate_and_record(setup, state, recorder, step, values)
                    if not all(math.isfinite(value) for value in results.values()):
                        writer.wait()
                        message = _divergence("the evaluation's loss", step, values, directory)
                        raise Diverged(message, step, evaluating=True)
                    if setup.plateau:
                        after = setup.plateau.after(jax.device_get(state.plateau), results)
                        state = state.replace(plateau=parallel.replicate(after))
                if saving_due(step) or interrupted:
                    save(step, results)
                if interrupted and step < setup.total_steps:
                    writer.wait()
                    raise Interrupted(interrupted, f"saved at step {step:,} in {directory / str(step)}")
                timer.exclude(time.perf_counter() - pause)

        if replaced["in all"]:
            say(f"damaged training images came up so often, and others took their places: {replaced['in all']:,}")
        recorder.summary(_settings(config), results)
        measured_under = dataclasses.asdict(setup.evaluator.conditions)
        _say_end(say, recipe, workdir, results, measured_under, setup.total_steps)
        say(setup.task.sentence(of_split(results, "eval")))
        return results


def evaluate_run(recipe: Recipe, workdir: Path, which: str, say: checkpoint.Say) -> dict[str, float]:
    """Evaluates a checkpoint of a run (`latest`, `best` or a step) under the recipe's protocol; writes nothing."""
    setup = set_up(recipe, workdir)
    folder = checkpoint.find(workdir, which)
    _refuse_other_run(
        workdir,
        plain(recipe.config),
        "a run of another network; evaluate it with the config that it was trained with",
        keys=("model.", "data.mean", "data.std", "data.normalization", "data.channels"),
    )
    _refuse_other_facts(workdir, setup.task)
    results = {}
    for split in setup.training.splits:
        variables = checkpoint.load_variables(folder, ema=split == "eval_ema")
        network = variables.pop("params"), {**variables, **setup.task.constants}
        result = evaluate(setup, parallel.replicate(network, setup.layout)).values
        results |= {f"{split}/{name}": value for name, value in result.items()}
        say(f"{split}: checkpoint {folder}, {setup.evaluator.conditions}")
        _say_left_out(say, result)
        say(setup.task.sentence(result))
    return results


# ----------------------------------------------------------------------------------------------------- compiled steps


def starting_state(setup: Setup, directory: Path, say: checkpoint.Say) -> tuple[TrainState, checkpoint.Manifest | None]:
    """The newest sound state in `directory`, with its manifest; where none was ever saved, the state before step 1."""
    structure = jax.eval_shape(lambda network: initial_state(setup, network), setup.task.shapes())
    resumed = checkpoint.restore_latest(directory, structure.replace(constants={}), say)
    if resumed is None:
        return _fresh_state(setup, say), None
    state, manifest = resumed
    return state.replace(constants=setup.task.constants), manifest


def initial_state(setup: Setup, network: tuple[Any, Any]) -> TrainState:
    """The state before the first step, around the network's (params, model_state)."""
    params, model_state = network
    # A copy: the step takes over the buffers of its state, each of which must be there once.
    ema = jax.tree.map(jnp.copy, {"params": params, "model_state": model_state}) if setup.training.ema_decay else {}
    return TrainState(
        step=np.zeros((), np.int32),
        seed=np.array(setup.seed, np.uint32),
        params=params,
        model_state=model_state,
        opt_state=jax.jit(setup.optimizer.init)(params),
        ema=ema,
        plateau=optim.Plateau.start(),
        sums=setup.task.zero_sums(),
        constants=setup.task.constants,
    )


def step_and_shapes(setup: Setup) -> tuple[Any, Any, Any]:
    """The train step over all devices, and the shapes of the state and the batch that it takes: to be lowered."""
    state = jax.eval_shape(lambda network: initial_state(setup, network), setup.task.shapes())
    step = parallel.on_each_device(make_train_step(setup), donate_state=True, layout=setup.layout, state=state)
    with setup.dataset.train_batches(batch_size=2, seed=setup.seed) as batches:
        examples = with_update_norm(next(batches), due=False)
    batch = parallel.shard_shapes(examples, setup.batch_size, setup.layout)
    return step, parallel.placed_shapes(state, setup.layout), batch


def with_update_norm(batch: Mapping[str, Any], *, due: bool) -> dict[str, Any]:
    """A batch that says whether the norm of the update is due, as it is where a batch says nothing.

    On a CPU a step leaves it out where it is not, and reports NaN: it is a pass over the parameters, one of eight, and
    with one image a fortieth of the step of NIN or ResNet-50.
    """
    return {**batch, "update_norm": np.full(len(batch["image"]), due)}


def make_train_step(setup: Setup) -> Any:
    """`(state, batch) -> (state, report)`, one update, to be run on every device."""
    task, training, every = setup.task, setup.training, setup.recording.every_steps

    def gradients(params: Any, model_state: Any, constants: Any, batch: Any, key: jax.Array) -> tuple[Any, Any, Any]:
        """Mean gradient, new statistics and summed metrics of the device's share, worked off in parts."""

        def gradient(params: Any, model_state: Any, batch: Any, key: jax.Array) -> Any:
            return jax.grad(task.loss, has_aux=True)(params, {**model_state, **constants}, batch, key)

        if training.accumulate_steps == 1:
            grads, (model_state, sums) = gradient(params, model_state, batch, key)
            return grads, model_state, sums
        parts = jax.tree.map(lambda x: x.reshape(training.accumulate_steps, -1, *x.shape[1:]), batch)

        def part(carry: Any, piece: Any) -> tuple[Any, None]:
            total, model_state, sums = carry
            grads, (model_state, more) = gradient(params, model_state, piece, key)
            return (jax.tree.map(jnp.add, total, grads), model_state, metrics.add(sums, more)), None

        start = jax.tree.map(jnp.zeros_like, params), model_state, jax.tree.map(jnp.asarray, task.zero_sums())
        (grads, model_state, sums), _ = lax.scan(part, start, parts)
        return jax.tree.map(lambda g: g / training.accumulate_steps, grads), model_state, sums

    def train_step(state: TrainState, batch: Any) -> tuple[TrainState, dict[str, Any]]:
        key = parallel.step_key(state.seed, state.step)
        grads, model_state, sums = gradients(state.params, state.model_state, state.constants, batch, key)
        grads, sums = parallel.mean_gradient(grads, setup.layout), parallel.total(sums, setup.layout)
        # The mean of equal numbers may differ from them in the last bit.
        model_state = _keeping_frozen(training, state.model_state, parallel.mean(model_state))

        learning_rate = setup.schedule(state.step) * state.plateau["scale"]
        update, opt_state = setup.optimizer.update(grads, state.opt_state, state.params, learning_rate=learning_rate)
        params = update.added_to(state.params)

        ema = state.ema
        if training.ema_decay:
            ema = optax.incremental_update({"params": params, "model_state": model_state}, ema, 1 - training.ema_decay)
        fresh = state.step % every == 0
        sums = metrics.add(jax.tree.map(lambda s: jnp.where(fresh, jnp.zeros_like(s), s), state.sums), sums)

        norm = functools.partial(parallel.norm, measure=optim.global_norm, layout=setup.layout)
        gradient_norm, parameter_norm = norm(grads), norm(params)
        due = batch["update_norm"][0] if "update_norm" in batch else jnp.array(True)
        report = {
            **sums,
            "learning_rate": learning_rate,
            "gradient_norm": gradient_norm,
            "parameter_norm": parameter_norm,
            "update_norm": update.norm(functools.partial(norm, measure=functools.partial(_norm_if_due, due))),
            "finite": jnp.isfinite(sums["loss"]) & jnp.isfinite(gradient_norm) & jnp.isfinite(parameter_norm),
        }
        if "replaced" in batch:
            report |= parallel.total({"replaced": jnp.sum(batch["replaced"], dtype=jnp.int32)}, setup.layout)
        if "signal" in batch:
            report["signal"] = parallel.maximum(jnp.max(batch["signal"]))
        state = TrainState(
            state.step + 1, state.seed, params, model_state, opt_state, ema, state.plateau, sums, state.constants
        )
        return state, report

    return train_step


class CompiledSteps:
    """The train step and the evaluator of the last run, for a next one that differs in its seed alone."""

    def __init__(self) -> None:
        self._recipe: Any = None
        self._steps: tuple[Any, evaluation.Evaluator] | None = None

    def of(self, setup: Setup, config: Mapping[str, Any], state: TrainState) -> tuple[Any, evaluation.Evaluator]:
        """The train step on every device, for a state like this one, and the evaluator; compiled at first use."""
        recipe = {name: section for name, section in config.items() if name != "seed"}
        if self._steps is None or self._recipe != recipe:
            train_step = parallel.on_each_device(
                make_train_step(setup), donate_state=True, layout=setup.layout, state=state
            )
            self._recipe = recipe
            self._steps = parallel.Compiled(train_step), setup.evaluator
        return self._steps


# ---------------------------------------------------------------------------------------------------------- evaluation


def evaluate(setup: Setup, network: tuple[Any, Any]) -> evaluation.Outcome:
    """Results over the whole evaluation split, every example exactly once; (params, model_state) are on the devices."""
    return setup.evaluator([network])


def _evaluate_and_record(
    setup: Setup, state: TrainState, recorder: record.Recorder, step: int, trained: Mapping[str, float]
) -> dict[str, float]:
    epoch = round(float(step / setup.steps_per_epoch), 4)
    networks = {"eval": (state.params, {**state.model_state, **state.constants})}
    if setup.training.ema_decay:
        networks["eval_ema"] = (state.ema["params"], {**state.ema["model_state"], **state.constants})
    results = {}
    for split, network in networks.items():
        outcome = evaluate(setup, network)
        result = outcome.values
        line = {"step": step, "epoch": epoch, "split": split, **result}
        recorder.metrics({**line, **dataclasses.asdict(setup.evaluator.conditions)})
        if outcome.confusion is not None:
            title = f"{split}, step {step:,}: {setup.task.sentence(result)}"
            _record_confusion(recorder, split, outcome.confusion, setup.dataset.class_names, title, step)
        _say_left_out(recorder.say, result)
        recorder.say(
            f"step {step:,} of {setup.total_steps:,}, epoch {epoch:g}: training loss "
            f"{setup.task.finish(trained)['loss']:.4f}; {split}: {setup.task.sentence(result)}"
        )
        results |= {f"{split}/{name}": value for name, value in result.items()}
    if setup.task.show and setup.recording.images and parallel.is_primary():
        params, model_state = jax.device_get((state.params, state.model_state))
        for name, images in setup.task.show(
            params, model_state, setup.evaluator.first_images(setup.recording.images)
        ).items():
            recorder.images(name, images, step)
    if setup.recording.histograms:
        recorder.weights(jax.device_get(parallel.whole(state.params, setup.layout)), step)
    return results


def _record_confusion(
    recorder: record.Recorder, split: str, matrix: np.ndarray, named: Sequence[str], title: str, step: int
) -> None:
    recorder.picture(f"{split}_confusion", lambda: confusion.picture(matrix, named, title=title), step)
    recorder.text(f"{split}_classes", confusion.table(matrix, named), step)


# ------------------------------------------------------------------------------------------------------- interruptions


class Interruption:
    """Takes SIGTERM and SIGINT as a wish to save and stop after this step; a second SIGINT stops at once."""

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        try:
            self._before = {number: signal.signal(number, self._take) for number in (signal.SIGTERM, signal.SIGINT)}
        except ValueError:  # not the main thread: signals are another's business
            self._before = {}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def told_in(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """A batch by which all processes hear of what this one received; where there is no other, the batch alone."""
        if jax.process_count() == 1:
            return dict(batch)
        return {**batch, "signal": np.full(len(batch["image"]), self.received, np.int32)}

    def _take(self, number: int, _: FrameType | None) -> None:
        if self.received == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number


# -------------------------------------------------------------------------------------------------------------- details


def _matches(pattern: str, name: str) -> bool:
    """Whether a pattern names a parameter, or a layer that it is in."""
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"{pattern}/*")


def _norm_if_due(due: jax.Array, tree: Any) -> jax.Array:
    """The norm of a tree; on a CPU NaN where it is not due. A GPU would wait for the host to choose."""

    def chosen(due: jax.Array, tree: Any) -> jax.Array:
        return lax.cond(due, optim.global_norm, lambda tree: jnp.float32(math.nan), tree)

    return lax.platform_dependent(due, tree, cpu=chosen, default=lambda due, tree: optim.global_norm(tree))


def _keeping_frozen(training: Training, before: Any, after: Any) -> Any:
    """The statistics after a step, those of frozen normalizations as they were."""
    if not training.freeze:
        return after

    def choose_leaf(path: Any, old: jax.Array, new: jax.Array) -> jax.Array:
        layer = jax.tree_util.keystr(path[1:-1], simple=True, separator="/")
        return old if training.frozen(f"{layer}/scale") else new

    return jax.tree_util.tree_map_with_path(choose_leaf, before, after)


def _check_patterns(training: Training, task: Task) -> None:
    """Raises UserError for a pattern that names no parameter, or when nothing is left to train."""
    patterns = [*training.freeze, *(pattern for pattern, _ in training.learning_rate_factors)]
    if not patterns:
        return
    params = task.shapes()[0]
    names = [name.replace(".", "/") for name in flatten(params)]
    for pattern in patterns:
        if not any(_matches(pattern, name) for name in names):
            raise UserError(f"no parameter is named '{pattern}'; the network has {', '.join(params)}")
    if all(training.learning_rate_factor(name) == 0 for name in names):
        raise UserError(f"train.freeze={training.freeze} leaves nothing to train")


def _refuse_other_run(workdir: Path, config: Mapping[str, Any], complaint: str, keys: tuple[str, ...] = ("",)) -> None:
    """Refuses a work directory whose run differs in a key that starts with one of `keys`, and shows the difference."""
    held = checkpoint.read_run(workdir)["config"]
    changes = {
        key: change
        for key, change in differences(held, config).items()
        if key.startswith(keys) and key not in EXECUTION
    }
    refuse(changes, f"{workdir} holds {complaint}")


def _say_other_repeats(say: checkpoint.Say, workdir: Path, repeats: Mapping[str, Any]) -> None:
    """Says that the run goes on with another `train.deterministic` than its last steps were done with."""
    run = checkpoint.read_run(workdir)
    before = [run, *run.get("resumed", [])][-1].get("repeats", {}).get("deterministic", False)
    if before != repeats["deterministic"]:
        say(f"train.deterministic: {before} -> {repeats['deterministic']} from here on; run.json says what was when")


def _origin(setup: Setup, config: Mapping[str, Any]) -> dict[str, str]:
    """What a checkpoint holds of the run that wrote it: of its config, and of the data behind the config's names."""
    data_set = setup.dataset
    return {
        "config": identity(config),
        "data set": f"{data_set.name} {data_set.version}, {data_set.num_train:,} training images",
    }


def _refuse_foreign(folder: Path, records: Mapping[str, Any], origin: Mapping[str, str]) -> None:
    """Refuses a checkpoint of another config's run, or of other data, though the state has the same arrays."""
    for what, here in origin.items():
        there = records.get(what, here)  # an earlier version's checkpoint does not say
        if there != here:
            raise UserError(
                f"{folder} is of a run with another {what} ({there}; here {here}): put back the one that it had, or "
                f"give another --workdir"
            )


def _refuse_other_facts(workdir: Path, task: Task) -> None:
    """Refuses a run that was trained with other fixed weights or pictures under the same names."""
    held = checkpoint.read_run(workdir).get("task", {})
    refuse(differences(held, task.facts), f"{workdir} was trained with something else that has the same name")


def _fresh_state(setup: Setup, say: checkpoint.Say) -> TrainState:
    params, model_state = setup.task.init(parallel.initial_key(setup.seed))
    source = setup.checkpointing.init_from
    if source:
        exclude = setup.checkpointing.init_exclude
        params, model_state = checkpoint.initialize_from(source, exclude, params, model_state, say)
    return initial_state(setup, (params, model_state))


def of_split(results: Mapping[str, float], split: str) -> dict[str, float]:
    """{'eval/loss': 1} -> {'loss': 1} for one split."""
    return {name.removeprefix(f"{split}/"): v for name, v in results.items() if name.startswith(f"{split}/")}


def _say_left_out(say: checkpoint.Say, result: Mapping[str, float]) -> None:
    """Says which result lacks damaged examples."""
    if result.get("skipped"):
        say(f"damaged evaluation images are left out of the following: {result['skipped']:,}")


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flatten(config).items() if value is not None}


def _cell(name: str, value: float) -> str:
    if name.endswith("accuracy"):
        return f"{100 * value:.2f} %"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _divergence(what: str, step: int, values: Mapping[str, float], directory: Path) -> str:
    sound = [there for there, _ in checkpoint.finished(directory)]
    last = f"the last good checkpoint is {directory / str(sound[-1])}" if sound else "no checkpoint was saved before"
    return (
        f"{what} is not finite at step {step:,} (learning rate {values['learning_rate']:g}, gradient norm "
        f"{values['gradient_norm']:g}); {last}; try a lower schedule.learning_rate, a warmup, or train.clip_norm"
    )


def _say_start(say: checkpoint.Say, recipe: Recipe, setup: Setup, workdir: Path, state: TrainState, start: int) -> None:
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    dataset = setup.dataset
    say(
        f"{recipe.name}: {type(setup.task.model).__name__}, {count:,} parameters; {dataset.name} {dataset.version}, "
        f"{dataset.num_train:,} training and {dataset.num_eval:,} evaluation images"
        + (f", {dataset.num_classes} classes" if dataset.num_classes else "")
    )
    for what, fact in setup.task.facts.items():
        say(f"{what}: {', '.join(f'{key} {value}' for key, value in fact.items())}")
    devices = jax.devices()
    begin = f"resuming after step {start:,}" if start else "starting"
    say(
        f"{begin} in {workdir}: {setup.total_steps:,} steps of {setup.batch_size} images on {len(devices)} "
        f"{devices[0].platform} device{'s' if len(devices) > 1 else ''}; compiling ..."
    )


def _say_end(
    say: checkpoint.Say,
    recipe: Recipe,
    workdir: Path,
    results: Mapping[str, float],
    conditions: Mapping[str, Any],
    step: int,
) -> None:
    """What happened, where it is, how to look at it, what to try next."""
    command = os.environ.get("DNN_COMMAND", "python -m dnn_research.main")
    # In an environment that is not activated, such as launch.sh's, TensorBoard is not on the path.
    tensorboard = Path(sys.executable).with_name("tensorboard")
    inside = tensorboard.exists() and tensorboard.is_relative_to(Path.cwd())
    program = tensorboard.relative_to(Path.cwd()) if inside else "tensorboard"
    splits = list(dict.fromkeys(name.partition("/")[0] for name in results))
    names = list(of_split(results, splits[0])) if splits else []
    width = max(15, *(2 + len(name) for name in names))
    say(f"{'results at step ' + format(step, ','):<28}" + "".join(f"{name:>{width}}" for name in names))
    for split in splits:
        cells = (_cell(name, value) for name, value in of_split(results, split).items())
        say(f"{split:<28}" + "".join(f"{cell:>{width}}" for cell in cells))
    if conditions:  # a checkpoint of an earlier version has none
        say(f"measured: {data.Conditions(**conditions)}")
    say(f"written:  {workdir}: metrics.jsonl, timing.jsonl, run.json, checkpoints, tensorboard")
    shown = workdir.parent if workdir.parent.name == "runs" else workdir
    say(f"look:     {program} --logdir {shown}    (then open http://localhost:6006)")
    for what, arguments in recipe.try_next.items():
        say(f"try next: {command} {arguments}    ({what})")
