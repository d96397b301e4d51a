"""A recipe is whole, overridable field by field, and says what is wrong with it."""

import json
import shlex
from pathlib import Path

import pytest

from dnn_research import recipe, train
from dnn_research.errors import UserError

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "configs").glob("*.py"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_is_whole_and_shrinks(path):
    loaded = recipe.load(f"{path}:smoke")
    config, name = loaded.config, loaded.name
    assert name == f"{path.stem}-smoke"
    assert config.is_locked
    assert config.data.source == "synthetic"
    assert (config.train.num_steps, config.train.num_epochs) == (3, None)
    json.dumps(recipe.plain(config))
    setup = train.set_up(loaded)
    assert setup.total_steps == 3


def test_laptops_are_whole_too():
    laptops = [path for path in RECIPES if hasattr(recipe._execute(path), "LAPTOP")]
    assert len(laptops) >= 2
    for path in laptops:
        loaded = recipe.load(f"{path}:laptop", ["batch_size=32"])
        if "loss_network" in loaded.config.task:  # a run of configs/loss_network.py, which is not here
            loaded = recipe.changed(loaded, {"task.loss_network.weights": "random"}, origin="test")
        assert train.set_up(loaded).dataset.num_train in (13, 100, 4000, 5120, 10240)


def test_command_line_carries_through_computed_values():
    path = ROOT / "configs/resnet152.py"
    assert recipe.load(str(path), ["config.batch_size=1024"]).config.schedule.learning_rate == pytest.approx(0.4)
    config = recipe.load(str(path), ["config.schedule.learning_rate=0.3", "config.batch_size=1024"]).config
    assert config.schedule.learning_rate == 0.3


def test_every_kind_of_field_can_be_set():
    overrides = ["train.clip_norm=1e3", "data.mean=(1, 2, 3)", "model.residual=false", "model.num_classes=7",
                 "data.dir=/data",
                 "checkpoint.init_exclude=conv1,fc", "data.augment.pad=2", "batch_size=1_024"]  # fmt: skip
    config = recipe.load(str(ROOT / "configs/resnet110_cifar10.py"), overrides).config
    assert config.train.clip_norm == 1000.0 and config.data.mean == (1, 2, 3) and config.model.residual is False
    assert config.model.num_classes == 7 and config.data.dir == "/data" and config.data.augment.pad == 2
    assert config.batch_size == 1024 and config.checkpoint.init_exclude == ("conv1", "fc")


def test_what_a_word_takes_back_keeps_its_type():
    config = recipe.load("configs/vgg16.py:laptop").config
    assert config.eval.resize is None
    assert recipe.load("configs/vgg16.py:laptop", ["config.eval.resize=40"]).config.eval.resize == 40


def test_what_recipes_propose_to_try_next_can_be_loaded(monkeypatch):
    monkeypatch.chdir(ROOT)
    proposed = [arguments for path in RECIPES for arguments in recipe.load(str(path)).try_next.values()]
    assert proposed
    for arguments in proposed:
        words = shlex.split(arguments)
        assert words[0] == "--config"
        recipe.load(words[1], [word.removeprefix("--") for word in words[2:] if word.startswith("--config.")])


def test_a_duration_in_epochs_takes_the_one_in_steps_back():
    config = recipe.load(str(ROOT / "configs/resnet110_cifar10.py"), ["train.num_epochs=2"]).config
    assert (config.train.num_epochs, config.train.num_steps) == (2.0, None)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.num_epoch=3", "unknown config key 'train.num_epoch'; did you mean 'train.num_epochs'?"),
        ("batch_size=many", "--config.batch_size takes a whole number, not 'many'"),
        ("batch_size=1.5", "--config.batch_size takes a whole number, not '1.5'"),
        ("model.residual=maybe", "--config.model.residual takes True or False, not 'maybe'"),
        ("train.ema_decay=inf", "--config.train.ema_decay takes a number, not 'inf'"),
        ("train=3", "config.train is a section"),
        ("train.dtype", "--config.train.dtype needs a value"),
    ],
)
def test_a_wrong_override_is_one_clear_line(override, message):
    with pytest.raises(UserError) as error:
        recipe.load(str(ROOT / "configs/resnet110_cifar10.py"), [override])
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_wrong_file_or_word_lists_what_there_is(tmp_path):
    with pytest.raises(UserError, match=r"did you mean .*resnet152.py"):
        recipe.load(str(ROOT / "configs/resnet151.py"))
    with pytest.raises(UserError, match="does not know the word 'smok'; it knows: smoke"):
        recipe.load(str(ROOT / "configs/resnet152.py:smok"))
    with pytest.raises(UserError, match="does not know the word 'E'"):  # its baseline is a variant already
        recipe.load(str(ROOT / "experiments/lrn_vgg.py:A,E,laptop"))
    (tmp_path / "broken.py").write_text("import nowhere")
    with pytest.raises(UserError, match="cannot be read as a config: ModuleNotFoundError"):
        recipe.load(str(tmp_path / "broken.py"))


def test_a_metric_of_averages_that_are_not_kept_is_told():
    loaded = recipe.load(str(ROOT / "configs/mobilenet.py:smoke"), ["train.ema_decay=0"])
    with pytest.raises(UserError, match=r"which train\.ema_decay=0 leaves out: take eval/top1_accuracy"):
        train.set_up(loaded)


def test_differences_name_key_and_both_values():
    before, after = {"a": {"b": 1, "c": 2}}, {"a": {"b": 3}, "d": 4}
    assert recipe.differences(before, after) == {"a.b": "1 -> 3", "a.c": "2 -> (absent)", "d": "(absent) -> 4"}
