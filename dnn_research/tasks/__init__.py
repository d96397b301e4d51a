"""What is trained: a task is a record of functions; the loop in train.py knows none by name.

`dnn_research.tasks.create` makes the one that a recipe names.
"""

from collections.abc import Callable, Mapping
from typing import Any

from dnn_research.errors import choose, construct
from dnn_research.tasks import classification, style_transfer, super_resolution
from dnn_research.tasks.task import Task

TASKS: dict[str, Callable[..., Task]] = {
    "classification": classification.create,
    "style_transfer": style_transfer.create,
    "super_resolution": super_resolution.create,
}


def create(section: Mapping[str, Any], **more: Any) -> Task:
    """The task that the section `task` of a recipe names; `more` what all tasks take (model, train, ...)."""
    options = {key: value for key, value in section.items() if key != "name"}
    name = section["name"]
    return construct(choose(TASKS, name, "task"), f"task '{name}'", options, **more)
