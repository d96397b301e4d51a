"""A data set with every option at something plain, to change one thing at a time."""

import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from dnn_research import data


@pytest.fixture(autouse=True)
def cache_home(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> pathlib.Path:
    """Indices of large files go here, and not to the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def create(data_dir: str) -> Callable[..., data.Dataset]:
    def create_with_defaults(**changes: Any) -> data.Dataset:
        channels = changes.get("channels", 3)
        arguments: dict[str, Any] = {
            "source": "synthetic",
            "dir": data_dir,
            "image_size": 8,
            "channels": channels,
            "train_split": "train",
            "eval_split": "test",
            "holdout_fraction": 0.1,
            "holdout_seed": 0,
            "damaged": "stop",
            "mean": (120.0, 110.0, 100.0)[:channels],
            "std": (50.0, 60.0, 70.0)[:channels],
            "normalization": "channel",
            "augment": {},
            "num_workers": 0,
            "synthetic_classes": 10,
            "synthetic_examples": 100,
        }
        return data.create(**{**arguments, **changes})

    return create_with_defaults
