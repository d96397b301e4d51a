"""Several CPU devices, no silent rank promotion, shapes checked; nothing of the user's is touched."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(tempfile.gettempdir(), "dnn_research_test_compiled"))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tests.typechecker  # the hook looks it up by name
from jaxtyping import install_import_hook

install_import_hook("dnn_research", "tests.typechecker.check").__enter__()

import jax
import pytest
from absl import flags

jax.config.update("jax_numpy_rank_promotion", "raise")
if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()


MAPPINGS, MOST_MAPPINGS = Path("/proc/self/maps"), 25_000


@pytest.fixture(scope="session", autouse=True)
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the tests prepare the built-in data sets; shared by the workers of one run."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "tensorflow_datasets"
    os.environ["TFDS_DATA_DIR"] = str(folder)
    return str(folder)


@pytest.fixture(scope="module", autouse=True)
def few_mappings() -> Iterator[None]:
    """Every compiled program is mapped into memory, and Linux ends a process that has more than 65,530 mappings."""
    yield
    if MAPPINGS.exists() and MAPPINGS.read_bytes().count(b"\n") > MOST_MAPPINGS:
        jax.clear_caches()


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes the first n CPU devices all that there are."""
    there = jax.local_devices()

    def use(count: int) -> None:
        monkeypatch.setattr(jax, "local_devices", lambda: there[:count])
        monkeypatch.setattr(jax, "local_device_count", lambda: count)
        monkeypatch.setattr(jax, "device_count", lambda: count)

    return use
