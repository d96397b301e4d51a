"""Runs that are evaluated, alone or together as an ensemble, and what comes of it."""

import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dnn_research import checkpoint, data, evaluation, parallel, tasks
from dnn_research.data import MultiView, protocols
from dnn_research.errors import UserError, construct
from dnn_research.tasks.task import Task

# What the members of an ensemble must have in common.
SHARED = ("source", "eval_split", "image_size", "channels")


@dataclasses.dataclass(frozen=True)
class Member:
    """A run, opened.

    Attributes:
        folder: of the checkpoint.
        manifest: that stands beside it.
        config: the run's.
        dataset: as the run normalizes it.
        task, network: (params, model_state) on the devices.
        ema: whether those are the averaged ones.
    """

    folder: Path
    manifest: checkpoint.Manifest
    config: Mapping[str, Any]
    dataset: data.Dataset
    task: Task
    network: tuple[Any, Any]
    ema: bool

    @property
    def classes(self) -> int:
        """The network's, which may be more than the data set's."""
        return self.task.model.num_classes  # pyrefly: ignore [missing-attribute]  # every classifier has it


@dataclasses.dataclass(frozen=True)
class Row:
    """A protocol's results.

    Attributes:
        name: the protocol's word and hash.
        under: protocol and data set.
        outcome: what was found.
        seconds: it took, compilation included.
        own: whether it is the protocol of the run itself.
    """

    name: str
    under: data.Conditions
    outcome: evaluation.Outcome
    seconds: float
    own: bool


def open_member(workdir: Path, which: str, *, ema: bool, changes: Mapping[str, Any]) -> Member:
    """Opens a run's checkpoint; `changes` go into its section `data`, images are normalized as the run's were.

    Raises:
        UserError: there is no such checkpoint, the run is no classifier's, or the data set cannot be opened.
    """
    elsewhere = f"evaluate it with python -m dnn_research.main, its --config and --workdir {workdir} --mode eval"
    run = checkpoint.read_run_of("classification", workdir, f", and tools.evaluate is for classifiers; {elsewhere}")
    config = checkpoint.tuples(run["config"])
    dataset = construct(data.create, "config.data", {**config["data"], **changes}, workdir=workdir)
    fields = {**config["model"], "num_classes": config["model"]["num_classes"] or run["num_classes"]}
    if "towers" in fields:
        # How a network runs in training; its parameters are the same on one device.
        fields["towers"] = 1
    task = tasks.create(config["task"], model=fields, train=config["train"], dataset=dataset, axis=parallel.AXIS)
    folder = checkpoint.find(workdir, which)
    variables = checkpoint.load_variables(folder, ema=ema)
    network = parallel.replicate((variables.pop("params"), variables), parallel.Layout(stacks=task.stacks))
    return Member(folder, checkpoint.read_manifest(folder), config, dataset, task, network, ema)


def own_protocol(member: Member) -> MultiView:
    """The protocol that a run was evaluated by in training."""
    return protocols.of_run(member.config)


def evaluate(members: Sequence[Member], wanted: Sequence[MultiView], batch_size: int, *, classes: bool) -> list[Row]:
    """Results of the members together, under each protocol; says each as soon as it is there.

    Raises:
        UserError: the members do not fit together, or a protocol not to them.
    """
    first, own = members[0], own_protocol(members[0]).description
    for member in members[1:]:
        for key in SHARED:
            theirs, ours = member.config["data"][key], first.config["data"][key]
            if theirs != ours:
                raise UserError(
                    f"{member.folder} has data.{key}={theirs}, {first.folder} has {ours}: an ensemble sees one data set"
                )
        theirs, ours = (f"{one.dataset.version}, split {one.dataset.eval_split}" for one in (member, first))
        if theirs != ours:
            raise UserError(f"{member.folder} sees {theirs}; {first.folder} {ours}: an ensemble sees one data set")
        if member.classes != first.classes:
            raise UserError(f"{member.folder} has {member.classes} classes, {first.folder} has {first.classes}")
    evaluators = [
        evaluation.Evaluator(
            first.dataset, protocol, [member.task for member in members], batch_size, confusion=classes
        )
        for protocol in wanted
    ]
    rows = []
    for protocol, evaluator in zip(wanted, evaluators, strict=True):
        start = time.perf_counter()
        outcome = evaluator([member.network for member in members])
        under = evaluator.conditions
        name = f"{under.protocol.partition('(')[0]} [{under.protocol_hash}]"
        rows.append(Row(name, under, outcome, time.perf_counter() - start, protocol.description == own))
        print(f"{name}: {first.task.sentence(outcome.values)}", file=sys.stderr, flush=True)
    return rows
