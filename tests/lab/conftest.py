"""An experiment of tiny networks on a few synthetic images, in a folder of its own."""

import logging
from pathlib import Path

import jax
import pytest

from dnn_research.lab import experiment
from dnn_research.lab.experiment import Experiment

ROOT = Path(__file__).parents[2]

TINY = '''"""Does a tiny network need shortcuts?

No paper asks.
"""

BASELINE = "{baseline}"
BASELINE_ROW = "plain"
ROWS = {{"plain": {{"model.residual": False}}, "residual": {{"model.residual": True}}{more_rows}}}
LAPTOP = {{
    "batch_size": 16, "data.source": "synthetic", "data.image_size": 8, "data.synthetic_examples": 48,
    "data.synthetic_classes": 4, "data.num_workers": 0, "data.augment.pad": 1, "model.depth": 8,
    "model.width_factor": 0.25, "schedule.warmup_steps": None, "schedule.boundary_steps": (6, 9),
    "train.num_steps": 8, "eval.batch_size": 48, "eval.every_steps": 4, "checkpoint.every_steps": 4,
    "record.every_steps": 2,
}}
SEEDS = (0, 1, 2, 3, 4, 5{more_seeds})
MEASURES = ("training_error", "test_error")
CLAIMS = (
    {{
        "id": "T1", "says": "shortcuts help", "source": "nowhere", "published": "-1 point", "row": "residual",
        "against": "plain", "measure": "test_error", "direction": "lower", "effect": -1.0,
    }},
)
{more}
'''


@pytest.fixture
def tiny_experiment(tmp_path: Path):
    """(more rows, more seeds, more declarations) -> the experiment at the laptop scale."""

    def make(more_rows: str = "", more_seeds: str = "", more: str = "") -> Experiment:
        folder = tmp_path / "experiments"
        folder.mkdir(exist_ok=True)
        baseline = ROOT / "configs/resnet110_cifar10.py"
        path = folder / "tiny.py"
        path.write_text(TINY.format(baseline=baseline, more_rows=more_rows, more_seeds=more_seeds, more=more))
        return experiment.load(f"{path}:laptop")

    return make


@pytest.fixture(autouse=True)
def own_lines():
    """The command shows lines where its output goes, which after the test is nowhere."""
    logger = logging.getLogger("dnn_research")
    before = logger.handlers, logger.level, logger.propagate
    yield
    logger.handlers, logger.level, logger.propagate = before


@pytest.fixture(autouse=True)
def one_device(monkeypatch: pytest.MonkeyPatch):
    """The tests' eight devices would take turns on the tiny batches."""
    there = jax.local_devices()[:1]
    monkeypatch.setattr(jax, "local_devices", lambda: there)
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    monkeypatch.setattr(jax, "device_count", lambda: 1)
