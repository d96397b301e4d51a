"""What an experiment file declares, checked: rows of differences from one recipe, seeds, measures and claims.

BASELINE      the recipe, `configs/vgg16.py` or with a variant's word `configs/vgg16.py:A`
BASELINE_ROW  the row that rows without a claim of their own are compared with
ROWS          name -> dotted paths and their values
PAPER         differences of all rows at the paper's scale, where it is not the recipe's; optional
LAPTOP        differences of all rows at the laptop scale, after those of the recipe's own LAPTOP
LAPTOP_ROWS   rows whose values are others at that scale (sizes of images); optional
SEEDS         at least as many as the comparisons need (`statistics.seeds_needed`), fixed before the first run
MEASURES      names of `measures.MEASURES`, the one that matters most first
TUNING        optional, for a rate of each row's own: {"path", "values", "seeds"}; no seed of a verdict
CLAIMS        dictionaries with the fields of `Claim`
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from dnn_research import recipe
from dnn_research.errors import UserError, choose, construct
from dnn_research.lab import statistics
from dnn_research.lab.measures import MEASURES

SCALES = ("paper", "laptop")
DIRECTIONS = ("lower", "higher", "equal")

# How the lab runs whatever it runs: hundreds of runs keep one checkpoint beside the best, and no pictures.
EXECUTION: dict[str, Any] = {"checkpoint.keep": 1, "record.images": 0, "record.histograms": False}


@dataclasses.dataclass(frozen=True)
class Claim:
    """What a source says about two rows.

    Attributes:
        id: of the list of claims, such as A1.
        says: the claim in a sentence.
        source: paper and section or table, or the article.
        published: its numbers, as text.
        row, against: the two rows; the effect is `row` minus `against`.
        measure: of `MEASURES`.
        direction: what `row`'s measure is, beside `against`'s: lower, higher or equal.
        effect: the published difference in the measure's unit (a factor for a ratio); None where there is none.
        margin: in the unit of the effect. Of `equal`: what counts as no difference; else the least effect that would
            still be what the claim says, 0 for any.
    """

    id: str
    says: str
    source: str
    published: str
    row: str
    against: str
    measure: str
    direction: str
    effect: float | None = None
    margin: float = 0.0

    def __post_init__(self) -> None:
        measure = choose(MEASURES, self.measure, "measure")
        if not measure.final:
            raise UserError(f"claim {self.id}: {self.measure} only describes; a verdict needs a final measure")
        if self.direction not in DIRECTIONS:
            raise UserError(f"claim {self.id}: direction is one of {', '.join(DIRECTIONS)}, not '{self.direction}'")
        if self.margin < 0 or (self.direction == "equal" and self.margin == 0):
            raise UserError(f"claim {self.id}: 'equal' needs a positive margin, others none below 0, not {self.margin}")
        if measure.ratio and (
            0 < self.margin <= 1 or (self.effect is not None and (self.effect <= 0 or self.effect == 1))
        ):
            raise UserError(
                f"claim {self.id}: {self.measure} is compared by factors: the margin is more than 1 (or 0), the effect "
                f"positive and not 1; not {self.margin} and {self.effect}"
            )


@dataclasses.dataclass(frozen=True)
class Tuning:
    """A choice of one field for each row, from the same values, on seeds that the verdict never sees."""

    path: str
    values: tuple[Any, ...]
    seeds: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """An experiment at one scale.

    Attributes:
        path: of its file.
        scale: `paper` or `laptop`.
        smoke: whether its runs are shrunk to a few synthetic images.
        question: the docstring's first paragraph; `text` is all of it.
        rows: name -> differences at this scale.
        comparisons: (row, against) of all that is tested: each claim's, and the baseline for rows without a claim.
    """

    path: Path
    scale: str
    smoke: bool
    question: str
    text: str
    baseline: str
    baseline_row: str
    rows: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...]
    measures: tuple[str, ...]
    claims: tuple[Claim, ...]
    tuning: Tuning | None

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def spec(self) -> str:
        """What --experiment takes."""
        return ":".join(filter(None, (_shown(self.path), ",".join(self._words))))

    @property
    def workdir(self) -> Path:
        """Where its runs and its report are unless the user says otherwise."""
        return Path("runs/lab") / self.name

    @property
    def command(self) -> str:
        """What reproduces it, from the top of any checkout: no path of the machine that it ran on."""
        spec = ":".join(filter(None, (f"{self.path.resolve().parent.name}/{self.path.name}", ",".join(self._words))))
        return f"./launch.sh lab --experiment {spec} --workdir {self.workdir}"

    @property
    def _words(self) -> list[str]:
        return [*(["laptop"] if self.scale == "laptop" else []), *(["smoke"] if self.smoke else [])]

    @property
    def comparisons(self) -> tuple[tuple[str, str], ...]:
        claimed = [(claim.row, claim.against) for claim in self.claims]
        named = {row for pair in claimed for row in pair} | {self.baseline_row}
        return tuple(dict.fromkeys([*claimed, *((row, self.baseline_row) for row in self.rows if row not in named)]))

    def load(self, row: str, seed: int, tuned: Mapping[str, Any] | None = None) -> recipe.Recipe:
        """The recipe of one run; `tuned` are differences beside the row's own."""
        loaded = recipe.load(f"{self.path}:{','.join([row, *self._words])}")
        with loaded.config.unlocked():
            recipe.apply(loaded.config, {"seed": seed, **EXECUTION, **(tuned or {})}, origin="the lab")
        return loaded


def load(spec: str) -> Experiment:
    """Loads `FILE[:WORD,...]`, the words being `laptop` and `smoke`.

    Raises:
        UserError: something that it declares is wrong, or it has too few seeds for what it asks.
    """
    file, _, given = spec.partition(".py:")
    path = Path(file + ".py" if given else spec)
    words = [word for word in given.split(",") if word]
    for word in words:
        if word not in ("laptop", "smoke"):
            raise UserError(f"{path} as an experiment takes the words laptop and smoke, not '{word}'")
    module = recipe.load_experiment(path)
    laptop = "laptop" in words
    if laptop and not hasattr(module, "LAPTOP"):
        raise UserError(f"{path} has no LAPTOP: run it at the paper's scale")
    text = (module.__doc__ or "").strip()
    experiment = Experiment(
        path=path,
        scale="laptop" if laptop else "paper",
        smoke="smoke" in words,
        question=" ".join(text.split("\n\n")[0].split()),
        text=text,
        baseline=_declared(module, "BASELINE"),
        baseline_row=_declared(module, "BASELINE_ROW"),
        rows=recipe.rows_of(module, laptop=laptop),
        seeds=tuple(_declared(module, "SEEDS")),
        measures=tuple(_declared(module, "MEASURES")),
        claims=tuple(construct(Claim, f"{path}: a claim", claim) for claim in _declared(module, "CLAIMS")),
        tuning=construct(Tuning, f"{path}: TUNING", module.TUNING) if hasattr(module, "TUNING") else None,
    )
    _check(experiment, module)
    return experiment


def _declared(module: ModuleType, name: str) -> Any:
    if not hasattr(module, name):
        raise UserError(f"{module.__file__} lacks {name}; see dnn_research/lab/experiment.py for what it declares")
    return getattr(module, name)


def _check(experiment: Experiment, module: ModuleType) -> None:
    path = experiment.path
    for name in experiment.measures:
        choose(MEASURES, name, f"measure of {path}")
    choose(experiment.rows, experiment.baseline_row, f"BASELINE_ROW of {path}")
    strange = set(getattr(module, "LAPTOP_ROWS", {})) - set(module.ROWS)
    if strange:
        raise UserError(f"{path}: LAPTOP_ROWS has rows that ROWS has not: {', '.join(sorted(strange))}")
    for claim in experiment.claims:
        for row in (claim.row, claim.against):
            choose(experiment.rows, row, f"row of claim {claim.id} of {path}")
        if claim.measure not in experiment.measures:
            raise UserError(f"{path}: claim {claim.id} needs the measure {claim.measure} in MEASURES")
    tests = max(len(experiment.comparisons), len(experiment.claims))
    needed = statistics.seeds_needed(tests)
    if len(set(experiment.seeds)) < needed or len(experiment.seeds) > statistics.MOST_SEEDS:
        raise UserError(
            f"{path}: {len(set(experiment.seeds))} seeds can find nothing among {tests} comparisons; "
            f"SEEDS must hold {needed} to {statistics.MOST_SEEDS}"
        )
    for where, seeds in (("SEEDS", experiment.seeds), ("TUNING", experiment.tuning.seeds if experiment.tuning else ())):
        if len(set(seeds)) < len(seeds):
            raise UserError(f"{path}: {where} holds a seed twice, which is no second result: {seeds}")
    if experiment.tuning and set(experiment.tuning.seeds) & set(experiment.seeds):
        raise UserError(f"{path}: TUNING must not see the seeds of the verdict")


def _shown(path: Path) -> str:
    """Relative to where the command runs, if it is below."""
    here = Path.cwd()
    return str(path.resolve().relative_to(here)) if path.resolve().is_relative_to(here) else str(path)
