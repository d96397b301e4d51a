"""The arrows of the design: which part of dnn_research may import which, and who alone may touch pmap and orbax."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "dnn_research"

BELOW = {
    *("recipe", "train", "parallel", "optim", "checkpoint", "metrics", "record", "process", "evaluation", "confusion"),
    *("arguments", "events", "hosts", "watch", "tasks", "models", "ops", "data", "weights"),
}

# Part -> the parts that it may import, beside itself and errors. A part is a module or a folder of the package.
MAY_IMPORT: dict[str, set[str]] = {
    "main": {"divergence", "memory"} | BELOW,
    "memory": {"train", "parallel", "recipe"},
    "divergence": {"train", "checkpoint", "lock", "parallel", "optim", "recipe", "data", "models"},
    "tools": BELOW,
    "lab": BELOW,
    "train": {
        *("recipe", "tasks", "parallel", "optim", "checkpoint", "metrics", "record", "data", "evaluation", "confusion"),
        "process",
    },
    "evaluation": {"tasks", "parallel", "metrics", "data"},
    "tasks": {"models", "metrics", "data", "checkpoint"},
    "weights": {"arguments", "models", "checkpoint", "recipe", "record"},
    "checkpoint": {"models"},  # load_network gives back the network with its variables
    "models": {"ops"},
    "data": {"metrics"},
    "ops": set(),
    "parallel": {"process"},
    "metrics": set(),
    "confusion": set(),
    "optim": set(),
    "record": {"events", "lock"},
    "events": set(),
    "lock": set(),
    "recipe": set(),
    "process": set(),
    "hosts": {"recipe", "watch"},
    "watch": set(),
    "errors": set(),
    "arguments": set(),
    "__init__": set(),
}

NEVER = {"tensorflow", "tf_keras", "clu", "torch", "torchvision", "configs", "experiments", "tests"}


def part_of(path: Path) -> str:
    """The part of the package that a file belongs to: `tasks` for dnn_research/tasks/classification.py."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Dotted names of everything that a module imports, anywhere in it; `package` is what `.` stands for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def uses_pmap(tree: ast.AST) -> bool:
    return any(
        (isinstance(node, ast.Attribute) and node.attr == "pmap")
        or (isinstance(node, ast.ImportFrom) and any(alias.name == "pmap" for alias in node.names))
        for node in ast.walk(tree)
    )


def violations(path: Path, source: str) -> list[str]:
    """What a file of the package at `path` with this source does that the design forbids."""
    part = part_of(path)
    tree = ast.parse(source)
    if part not in MAY_IMPORT:
        return [f"{part} is not a part of the design"]
    found = []
    for name in imported(tree, ".".join(path.relative_to(ROOT).parent.parts)):
        top, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if top == PACKAGE.name and target not in {part, "errors"} | MAY_IMPORT[part]:
            found.append(f"{part} imports {target or 'all of dnn_research'}")
        if top in NEVER:
            found.append(f"{part} imports {top}")
        if top == "orbax" and part != "checkpoint":
            found.append(f"{part} imports orbax")
    if uses_pmap(tree) and part != "parallel":
        found.append(f"{part} uses pmap")
    return found


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE).with_suffix(""))
)
def test_every_file_keeps_to_the_arrows(path: Path):
    assert violations(path, path.read_text()) == []


@pytest.mark.parametrize(
    ("file", "source", "found"),
    [
        ("models/resnet.py", "from dnn_research import parallel", ["models imports parallel"]),
        ("models/resnet.py", "from dnn_research.parallel import AXIS", ["models imports parallel"]),
        ("models/resnet.py", "from ..parallel import AXIS", ["models imports parallel"]),
        ("models/resnet.py", "from .. import parallel", ["models imports parallel"]),
        ("models/resnet.py", "from .layers import Conv", []),
        ("models/__init__.py", "from .layers import Conv", []),
        ("models/resnet.py", "import dnn_research.train", ["models imports train"]),
        ("models/resnet.py", "import dnn_research", ["models imports all of dnn_research"]),
        ("models/resnet.py", "def f():\n    from dnn_research import data", ["models imports data"]),
        ("models/resnet.py", "from dnn_research.errors import UserError\nfrom dnn_research import ops", []),
        ("optim.py", "from dnn_research import metrics", ["optim imports metrics"]),
        ("tools/summary.py", "from dnn_research import main", ["tools imports main"]),
        ("train.py", "import orbax.checkpoint as ocp", ["train imports orbax"]),
        ("checkpoint.py", "import orbax.checkpoint as ocp\nfrom dnn_research import models", []),
        ("train.py", "import jax\nstep = jax.pmap(abs)", ["train uses pmap"]),
        ("train.py", "from jax import pmap", ["train uses pmap"]),
        ("parallel.py", "import jax\nstep = jax.pmap(abs)", []),
        ("data/sources.py", "import tensorflow as tf", ["data imports tensorflow"]),
        ("data/sources.py", "import tensorflow_datasets as tfds", []),
        ("record.py", "from clu import metric_writers", ["record imports clu"]),
        ("recipe.py", "from configs import quickstart", ["recipe imports configs"]),
        ("utils.py", "", ["utils is not a part of the design"]),
    ],
)
def test_what_the_design_forbids_is_found(file: str, source: str, found: list[str]):
    assert violations(PACKAGE / file, source) == found


def test_importing_the_package_loads_no_tensorflow(tmp_path: Path):
    """Also where TensorFlow is installed: starting up is quick, and its GPU allocator stays away."""
    for name in ("tensorflow", "clu"):
        (tmp_path / f"{name}.py").write_text(f"print('loaded {name}')")
    modules = sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in PACKAGE.rglob("*.py")
        if path.name != "__main__.py"
    )
    program = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    done = subprocess.run(
        [sys.executable, "-c", program, *modules],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
