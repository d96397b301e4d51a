"""Command lines that are wrong end with one line and status 1: hundreds of them, in this process."""

import importlib
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from dnn_research import main, recipe, train
from dnn_research.errors import UserError

ROOT = Path(__file__).parents[1]

HUGE = "9" * 23
VALUES = (
    *("", "none", "True", "x", "-1", "0", "1", "0.5", "1e400", "nan", "inf", "-inf", HUGE),
    *("(", "()", "(1,", "(1,2)", "(1,'x')", "('a',('b',))", "[]", "{}", "[[1]]", "lambda: 0", "__import__('os')"),
    *("ö", "\u202e", "\U0001f600", "\x00", "a\nb", "%s", "${HOME}", "../../etc", "/", "/dev/null", "~", "x" * 5000),
    *("1,2", "a,b", "*", "[", "train", "1_000", "0x10", "(" * 300, "1" * 5000),
)
CONFIGS = ("configs/lenet.py:smoke", "configs/resnet110_cifar10.py:smoke", "configs/style_transfer.py:smoke")


def commands_for_overrides(config: str) -> list[str]:
    """Every field of a recipe with every odd value."""
    fields = recipe.flatten(recipe.load(str(ROOT / config)).config.to_dict())
    return [f"--config.{field}={value}" for field in fields for value in VALUES]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd) -> Callable[[Sequence[str]], tuple[int, str]]:
    """Runs `dnn_research.main` up to where training would begin: (status, what it said on stderr)."""
    work = tmp_path / "here"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(train, "train", lambda chosen, workdir, compiled: train.set_up(chosen, workdir))
    monkeypatch.setattr(main.process, "use_compilation_cache", lambda: None)
    monkeypatch.setattr(main.process, "show_plain_lines", lambda: None)

    def command(arguments: Sequence[str]) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["main.py", *arguments])
        for flag in main.FLAGS:
            main.flags.FLAGS[flag.name].unparse()
        status = 0
        try:
            main.main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        assert [path.name for path in tmp_path.iterdir()] == ["here"]
        return status, capfd.readouterr().err

    return command


def complaints(said: str) -> list[str]:
    """The lines on stderr, without commands to be copied, which stand below a complaint."""
    return [line for line in said.splitlines() if not line.startswith("    ")]


def check(arguments: Sequence[str], status: int, said: str) -> None:
    """The command ended with a line that a person understands."""
    shown = [argument[:80] for argument in arguments]
    assert status in (0, 1), (shown, status, said[:300])
    assert "Traceback" not in said and len(complaints(said)) == status, (shown, status, said[:600])
    # The tests' own type checker, which nobody has who runs the command, is quicker than what checks values.
    assert "(--debug shows where)" not in said or "TypeCheckError" in said, (shown, said[:300])


def some(commands: Sequence[str], count: int) -> list[str]:
    return random.Random(0).sample(list(commands), count)


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS)
def test_odd_values_of_every_field(run, config):
    for override in some(commands_for_overrides(config), 30):
        arguments = ["--config", str(ROOT / config), override]
        check(arguments, *run(arguments))


@pytest.mark.full
@pytest.mark.parametrize("config", CONFIGS)
def test_all_odd_values_of_every_field(run, config):
    found = []
    for override in commands_for_overrides(config):
        arguments = ["--config", str(ROOT / config), override]
        try:
            check(arguments, *run(arguments))
        except AssertionError as failure:
            found.append(str(failure))
    assert not found, "\n\n".join(found)


MAIN = [
    *([], ["--config"], ["--config", ""], ["--config", "x.py"], ["--config", "/"], ["--config", "configs"]),
    *(["--config", "\x00.py"], ["--config", "ö:ü"], ["--config", f"{ROOT}/configs/lenet.py:"], ["--confg", "x"], ["x"]),
    *(["--config", f"{ROOT}/configs/lenet.py:no"], ["--config", f"{ROOT}/configs/lenet.py:smoke,,smoke"]),
    *(["--config", f"{ROOT}/README.md"], ["--config", "x.py", "--mode", "fly"], ["--config", "x" * 9000]),
    *(["--config", f"{ROOT}/configs/lenet.py:smoke", "--mode=eval"], ["--debug=maybe", "--config", "x"]),
    *(["--config", f"{ROOT}/configs/lenet.py:smoke", "--mode=eval", "--checkpoint", value] for value in VALUES[:20]),
    *(["--config", f"{ROOT}/configs/lenet.py:smoke", "--config.no.such=1"], ["--config.x"], ["--", "--"]),
    ["--config", f"{ROOT}/configs/lenet.py:smoke", "--config.schedule.learning_rate=none"],
    ["--config", f"{ROOT}/configs/resnet110_cifar10.py:smoke", "--config.schedule.boundary_epochs=(1,1e400)"],
    ["--config", f"{ROOT}/configs/resnet110_cifar10.py:smoke", f"--config.schedule.factor={HUGE}"],
    ["--config", f"{ROOT}/configs/style_transfer.py:smoke", f"--config.task.loss_network.model.width_factor={HUGE}"],
    ["--config", f"{ROOT}/configs/style_transfer.py:smoke", f"--config.task.loss_network.seed={HUGE}"],
    ["--config", f"{ROOT}/configs/style_transfer.py:smoke", f"--config.task.style_size={HUGE}"],
]


@pytest.mark.parametrize("arguments", MAIN, ids=range(len(MAIN)))
def test_odd_command_lines_of_main(run, arguments):
    check(arguments, *run(arguments))


# Each command of the tools, with what it needs but for what is odd: {} stands for an odd word.
TOOLS = {
    "dnn_research.tools.summary": [["--config", "{}"], ["--config", "configs/lenet.py:{}"], ["--{}"]],
    "dnn_research.tools.collectives": [["--config", "{}"], ["--config", "configs/lenet.py", "--compare", "{}"]],
    "dnn_research.tools.aot": [
        ["--config", "configs/lenet.py", "--topology", "{}"],
        ["--config", "configs/lenet.py", "--topology", "v5e:2x4", "--tries", "{}"],
        ["--topology", "v5e:2x4", "--config", "{}"],
    ],
    "dnn_research.tools.compare": [["{}", "{}"], ["{}"], []],
    "dnn_research.tools.soak": [["--faults", "1", "--config", "{}"], ["--seed", "{}"], ["--{}"]],
    "dnn_research.tools.verify_resume": [["--config", "{}"], ["--config", "configs/lenet.py", "--steps", "{}"]],
    "dnn_research.tools.curves": [["{}", "--output", "x.png"], ["--output", "{}"]],
    "dnn_research.tools.predict": [["--workdir", "{}", "x.png"], ["--workdir", "{}", "x.png", "--top", "{}"], ["{}"]],
    "dnn_research.tools.evaluate": [["--workdir", "{}"], ["--workdir", "x", "--protocols", "{}"]],
    "dnn_research.tools.stylize": [["{}", "--output", "b.png", "--workdir", "{}"], ["--output", "{}"]],
    "dnn_research.tools.upscale": [["{}", "--output", "b.png", "--workdir", "{}"]],
    "dnn_research.tools.data": [["{}"], ["prepare", "{}", "{}"], ["verify", "--config", "{}"]],
    "dnn_research.weights.__main__": [["{}"], ["import", "--file", "{}"], ["export", "--workdir", "{}"]],
    "dnn_research.lab.__main__": [["--experiment", "{}"], ["--experiment", "experiments/residual.py", "--rows", "{}"]],
}
WORDS = (
    "",
    "x",
    "-1",
    "ö",
    "\x00",
    "a\nb",
    "/",
    "/dev/null",
    "..",
    "~",
    "x" * 5000,
    "{",
    "9" * 30,
    "--",
    "%",
    ":",
    ",",
)


@pytest.mark.parametrize("name", TOOLS)
def test_odd_command_lines_of_the_tools(name, monkeypatch, tmp_path, capfd):
    command = importlib.import_module(name)
    work = tmp_path / "here"
    work.mkdir()
    (work / "configs").symlink_to(ROOT / "configs")
    (work / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.chdir(work)
    for form in TOOLS[name]:
        for word in WORDS:
            arguments = [part.replace("{}", word) for part in form]
            try:
                status = command.main(arguments)
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 1
            said = capfd.readouterr().err
            shown = [argument[:80] for argument in arguments]
            assert status in (0, 1), (shown, status, said[:300])
            if status:  # an empty word may stand for nothing
                assert said.startswith("error: ") and len(complaints(said)) == 1, (shown, said[:600])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here"]


def test_a_value_is_never_run():
    with pytest.raises(UserError):
        recipe.load(str(ROOT / "configs/lenet.py"), ["config.data.mean=(__import__('os').system('touch /tmp/x'),)"])
