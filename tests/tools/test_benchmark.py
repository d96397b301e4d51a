"""The benchmark measures the step that training runs."""

import json
from pathlib import Path

import pytest

from dnn_research.tools import benchmark

QUICK = [
    "--config", str(Path(__file__).parents[2] / "configs/quickstart.py"), "--config.model.depth=8",
    "--config.batch_size=8", "--config.data.image_size=8", "--config.model.width_factor=0.25",
]  # fmt: skip


def test_variants_are_measured_side_by_side(capsys):
    assert benchmark.main([*QUICK, "--compare", "model.remat_blocks=False,True", "--steps", "2", "--json"]) == 0
    plain, remat = json.loads(capsys.readouterr().out)
    assert [plain["variant"], remat["variant"]] == ["model.remat_blocks=False", "model.remat_blocks=True"]
    for found in (plain, remat):
        assert found["compile_seconds"] > 0.01
        assert found["images_per_second"] == pytest.approx(8 / found["step_seconds"])
        assert found["temporary_gib"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--compare", "model.scan"], "lacks its values"),
        (["--compare", "model.scan=1,2"], "did you mean 'model.scan_blocks'?"),
        (["--stepz", "3"], "unknown argument --stepz"),
        (["--steps", "0"], "--steps is 0"),
    ],
)
def test_wrong_arguments_are_a_line(arguments, message, capsys):
    assert benchmark.main([*QUICK, *arguments]) == 1
    assert message in capsys.readouterr().err
