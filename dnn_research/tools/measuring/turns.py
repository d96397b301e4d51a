"""Contenders take turns, so that a busy machine bears on all alike, and never two at the same time.

A turn begins with a step that is not counted: it finds caches, and on some virtual machines the memory itself, with
the one before. Training has no such step but its first.
"""

import statistics
import time
from collections.abc import Callable, Sequence

from dnn_research.tools.measuring.ours import Program
from dnn_research.tools.measuring.peer import COMPILED, Peer

# Steps that are shorter are repeated within a turn.
TURN_SECONDS = 0.5
# Until the threads of the one before have gone to sleep.
PAUSE_SECONDS = 0.05


class OurContender:
    """What runs here: its kind is `ours`, `stock` (with the stock operations) or `product` (of matrices)."""

    variant = ""

    def __init__(self, name: str, kind: str, step: Callable[[], object], program: Program | None = None) -> None:
        self.name, self.kind, self.step, self.program = name, kind, step, program

    def turn(self, at_least: float) -> list[float]:
        """Takes steps for at least so many seconds, and one at least: the seconds of each."""
        seconds: list[float] = []
        begun = time.perf_counter()
        while not seconds or time.perf_counter() - begun < at_least:
            started = time.perf_counter()
            self.step()
            seconds.append(time.perf_counter() - started)
        return seconds


class PeerContender:
    """A variant of the peer's; its kind is `eager` or `compiled`."""

    program = None

    def __init__(self, peer: Peer, variant: str, mode: str) -> None:
        self.kind = "compiled" if variant.startswith(COMPILED) else "eager"
        self.name = f"torch {self.kind if self.kind == 'compiled' else variant}"
        self.peer, self.variant = peer, variant
        peer.ask("prepare", variant=variant, mode=mode)

    def turn(self, at_least: float) -> list[float]:
        """See `OurContender.turn`."""
        return self.peer.ask("run", variant=self.variant, at_least=at_least)["seconds"]


Contender = OurContender | PeerContender


def warm_up(contenders: Sequence[Contender]) -> dict[str, float]:
    """A step of each: the seconds that it took, compilation included where it happens in the first step."""
    return {contender.name: contender.turn(0.0)[0] for contender in contenders}


def fastest(contenders: Sequence[Contender]) -> Contender:
    """By the median of a turn."""
    return min(contenders, key=lambda contender: statistics.median(contender.turn(TURN_SECONDS)))


def take(contenders: Sequence[Contender], rounds: int) -> dict[str, list[float]]:
    """The seconds of every step of each but the first of its turns; every other round goes the other way round."""
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in range(rounds):
        for contender in contenders if number % 2 == 0 else reversed(contenders):
            time.sleep(PAUSE_SECONDS)
            contender.turn(0.0)
            seconds[contender.name] += contender.turn(TURN_SECONDS)
    return seconds
