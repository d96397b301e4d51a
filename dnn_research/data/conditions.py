"""What a result was measured under: the protocol, and the data set with its version and split."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from dnn_research.data import protocols
from dnn_research.data.multi_view import MultiView
from dnn_research.data.pipeline import Dataset


@dataclasses.dataclass(frozen=True)
class Conditions:
    """What a result was measured under: only results under like conditions compare.

    Attributes:
        protocol: its description.
        protocol_hash: eight digits that stand for it.
        dataset, dataset_version, dataset_split: what was evaluated.
    """

    protocol: str
    protocol_hash: str
    dataset: str
    dataset_version: str
    dataset_split: str

    def __str__(self) -> str:
        where = f"{self.dataset} {self.dataset_version}, split {self.dataset_split}"
        return f"{where}, {self.protocol} [{self.protocol_hash}]"


def conditions(dataset: Dataset, protocol: MultiView) -> Conditions:
    """Those of this data set's evaluation split under this protocol."""
    described = protocol.description
    return Conditions(described, protocols.digest(described), dataset.name, dataset.version, dataset.eval_split)


def unlike(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names of the conditions in which results differ; each is a mapping such as a line of metrics.jsonl."""
    held = list(results)
    names = [field.name for field in dataclasses.fields(Conditions) if field.name != "protocol_hash"]
    return [name for name in names if len({result.get(name) for result in held}) > 1]
