"""docs/networks.md shows what its commands print, and the figures beside the papers' are the code's.

`python -m tests.test_docs`, from the checkout, writes the tables anew.
"""

import contextlib
import functools
import io
import re
import shlex
from pathlib import Path

import pytest

from dnn_research import models, recipe
from dnn_research.models.googlenet import MODULES
from dnn_research.tools import summary
from tests.models import paper_tables

PAGE = Path(__file__).resolve().parent.parent / "docs" / "networks.md"
# A command, an empty line, and the table that it prints.
TABLE = re.compile(r"^ {4}python -m dnn_research\.tools\.summary (.+)\n\n((?:\|.*\n)+)", re.MULTILINE)
TEXT = PAGE.read_text()
TABLES: dict[str, str] = dict(TABLE.findall(TEXT))
# By their headings; what a section has beside the printed tables.
SECTIONS = {
    section.partition("\n")[0]: TABLE.sub("", section) for section in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]
}


@functools.cache
def printed(arguments: str) -> str:
    """What the command prints."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = summary.main(shlex.split(arguments))
    assert status == 0, err.getvalue()
    return out.getvalue()


def rewritten() -> str:
    """The page with its tables as they are printed now."""

    def command_and_table(match: re.Match[str]) -> str:
        return match[0].removesuffix(match[2]) + printed(match[1])

    return TABLE.sub(command_and_table, TEXT)


@pytest.mark.parametrize("arguments", TABLES)
def test_tables_are_what_the_commands_print(arguments):
    assert TABLES[arguments].splitlines() == printed(arguments).splitlines(), (
        f"{PAGE.name} is not what the code prints any more: `python -m tests.test_docs` writes its tables anew"
    )


def test_no_family_and_no_table_is_missing():
    assert TEXT.count("python -m dnn_research.tools.summary") == len(TABLES)
    families = [recipe.load(shlex.split(arguments)[1], []).config.model.name for arguments in TABLES]
    assert sorted(families) == sorted(
        [*(set(models.MODELS) - {"lenet", "resnet_cifar", *models.IMAGE_NETWORKS}), "nin", "resnet"]
    )


# ------------------------------------------------------------------------------------ the columns beside the papers'

Layer = dict[str, str]


def cells(line: str) -> list[str]:
    return [cell.strip().strip("*") for cell in line.strip("|\n").split("|")]


def layers(recipe_file: str) -> dict[str, Layer]:
    """The lines of a table that a command prints, by layer; 'total' too."""
    (arguments,) = [arguments for arguments in TABLES if f"configs/{recipe_file} " in arguments]
    header, _, *lines = map(cells, printed(arguments).splitlines())
    return {line[0]: dict(zip(header, line, strict=True)) for line in lines}


def number(layer: Layer, column: str) -> int:
    return int(layer[column].replace(",", ""))


def total(lines: list[Layer], column: str) -> int:
    return sum(number(layer, column) for layer in lines)


def of_kind(lines: dict[str, Layer], kind: str) -> list[Layer]:
    return [layer for layer in lines.values() if layer["operation"].startswith(kind)]


def units(layer: Layer) -> int:
    """The numbers that a layer puts out."""
    return number(layer, "activation bytes") // 4


def weights(layer: Layer) -> int:
    """Of a convolution's or fully connected layer's kernel: each is used once at each position."""
    height, width = map(int, layer["output"].split("x"))
    return number(layer, "multiply-adds") // (height * width)


def counted(table: str) -> tuple[int, int, int]:
    """Parameters, multiply-adds, and multiply-adds without the fully connected layers, of another network.

    tests/models/test_paper_tables.py holds these tables to the code.
    """
    params, macs = paper_tables.totals(table)
    return params, macs, macs - sum(row.macs for row in paper_tables.rows(table) if row.op == "fc")


def alexnet() -> list[list[object]]:
    lines = layers("alexnet.py")
    kernels = [layer for layer in lines.values() if number(layer, "multiply-adds") and layer["layer"] != "total"]
    first, *others = [units(layer) for layer in kernels]
    groups = {lines[name]["groups"] for name in ("conv2", "conv4", "conv5")}
    channels = [int(lines[name]["channels"].split()[0]) for name in ("conv2", "conv4")]
    return [
        [number(lines["total"], "parameters")],
        [first + sum(others)],
        [first],
        [*others[:-3], *map(str, others[-3:])],
        [*groups, *channels],
        [lines["conv1"]["padding"]],
        [number(lines["total"], "multiply-adds")],
    ]


def vgg() -> list[list[object]]:
    lines = layers("vgg16.py")
    d, e = number(lines["total"], "multiply-adds"), counted("vgg_E")
    return [
        [number(lines["total"], "parameters")],
        [*(counted(f"vgg_{variant}")[0] for variant in "ABC"), e[0]],
        [len(of_kind(lines, "conv")), len(of_kind(lines, "fc"))],
        [d, d - total(of_kind(lines, "fc"), "multiply-adds")],
        [*e[1:]],
    ]


def nin() -> list[list[object]]:
    cifar, imagenet = (number(layers(name)["total"], "parameters") for name in ("nin.py", "nin.py:imagenet"))
    return [[cifar], [imagenet, 4 * imagenet]]


def googlenet() -> list[list[object]]:
    lines = layers("googlenet.py")
    heads = [[layer for name, layer in lines.items() if name.startswith(head)] for head in ("aux1/", "aux2/")]
    without = {
        column: number(lines["total"], column) - sum(total(head, column) for head in heads)
        for column in ("parameters", "multiply-adds")
    }
    stem = [layer for name, layer in lines.items() if name.startswith("conv")]
    pools = [name for name in lines if re.fullmatch(r"pool\d?", name)]
    return [
        [without["parameters"]],
        [without["multiply-adds"]],
        [without["multiply-adds"]],
        [
            *(f"{head[0]['output']}x{head[0]['channels'].split()[-1]}" for head in heads),
            *(total(head, column) for column in ("parameters", "multiply-adds") for head in heads),
        ],
        [len(stem), 2, len(MODULES), len(pools)],
    ]


def resnet50() -> list[list[object]]:
    lines = layers("resnet50.py")
    last = ["conv1", *(f"stage{n}/block1/conv3" for n in (2, 3, 4, 5))]
    return [
        [number(lines["total"], "multiply-adds")],
        [lines[name]["output"] for name in last],
        [lines["pool1"]["padding"]],
        [*{lines[f"stage{n}/block1/{name}"]["stride"] for n in (3, 4, 5) for name in ("conv1", "shortcut_conv")}],
        [len(of_kind(lines, "conv")), len(of_kind(lines, "fc"))],
        [number(lines["total"], "parameters")],
    ]


def resnet34() -> list[list[object]]:
    lines = layers("resnet34.py")
    macs = number(lines["total"], "multiply-adds")
    assert macs == counted("plain34")[1]
    return [
        [macs],
        [f"{100 * macs / counted('vgg_E')[1]:.1f}"],
        [counted(table)[1] for table in ("resnet18_A", "resnet101_B", "resnet152_B")],
        [len(of_kind(lines, "conv")), len(of_kind(lines, "fc"))],
        [number(lines["total"], "parameters")],
    ]


def mobilenet() -> list[list[object]]:
    lines = layers("mobilenet.py")
    convolutions, fc = of_kind(lines, "conv"), of_kind(lines, "fc")
    depthwise = [layer for layer in convolutions if int(layer["groups"]) > 1]
    pointwise = [layer for layer in convolutions if layer["kernel"] == "1x1"]
    spatial = [lines["conv0"], *depthwise]
    kinds = [pointwise, depthwise, [lines["conv0"]], fc]
    assert sum(map(len, kinds)) == len(convolutions) + len(fc)
    macs = [total(kind, "multiply-adds") for kind in kinds]
    kernels = [sum(map(weights, kind)) for kind in kinds]
    pair = [lines["dw7"], lines["pw7"]]
    narrow = [counted(f"mobilenet_{width}_224") for width in (0.75, 0.5, 0.25)]
    full = counted("mobilenet_1.0_224_fullconv")
    return [
        [number(lines["total"], "parameters")],
        [sum(macs)],
        [len(convolutions), len(depthwise), len(fc)],
        [*{layer["padding"] for layer in spatial if layer["stride"] == "2x2"}, lines["dw1"]["padding"]],
        [lines["dw13"]["stride"].split("x")[0], lines["dw13"]["output"]],
        [f"{100 * part / sum(macs):.2f}" for part in macs],
        [f"{100 * part / sum(kernels):.2f}" for part in kernels],
        [total(pair, "multiply-adds"), sum(map(weights, pair))],
        [*(macs for _, macs, _ in narrow), *(params for params, *_ in narrow)],
        [counted(f"mobilenet_1.0_{size}")[1] for size in (192, 160, 128)],
        [full[1], full[2], full[0]],
    ]


FIGURES = {
    "AlexNet": alexnet,
    "VGG-16": vgg,
    "Network in Network": nin,
    "GoogLeNet": googlenet,
    "ResNet-50": resnet50,
    "ResNet-34": resnet34,
    "MobileNet": mobilenet,
}


@pytest.mark.parametrize("section", FIGURES)
def test_figures_beside_the_papers_are_the_codes(section):
    """Every number in a column 'here', line by line."""
    found = [re.findall(r"(?<![\w.,])\d+(?:[,.x]\d+)*", line[1]) for line in comparison(section, "here")]
    expected = [
        [f"{figure:,}" if isinstance(figure, int) else str(figure) for figure in line] for line in FIGURES[section]()
    ]
    assert found == expected


def test_every_section_is_compared():
    assert list(SECTIONS) == list(FIGURES)


def comparison(section: str, second: str) -> list[list[str]]:
    """The lines of the section's table whose second column has that heading."""
    tables = re.findall(r"(?:^\|.*\n)+", SECTIONS[section], re.MULTILINE)
    (table,) = [table for table in tables if cells(table)[1] == second]
    _, _, *lines = map(cells, table.splitlines())
    return lines


def test_googlenets_table_1():
    """Output sizes, weights by 1024 and millions of multiply-adds of each row."""
    lines = layers("googlenet.py")
    names = {"convolution 7x7/2": ["conv1"], "convolution 3x3/1": ["conv2_reduce", "conv2"], "linear": ["fc"]}
    for module in MODULES:
        place = f"inception_{module}/"
        names[f"inception ({module})"] = [
            name for name in lines if name.startswith(place) and not name.endswith("/pool")
        ]
    names |= {"avg pool 7x7/1": ["pool"], "dropout (40%)": ["dropout"]}
    pools = iter(["pool1", "pool2", "pool3", "pool4"])
    for title, output, _, params, _, ops, _ in comparison("GoogLeNet", "output"):
        of_row = [lines[name] for name in names.get(title) or [next(pools)]]
        # A module joins the channels of four branches.
        joined = [layer for layer in of_row if not layer["layer"].endswith("_reduce")]
        channels = sum(int(layer["channels"].split()[-1]) for layer in joined)
        assert output == f"{joined[-1]['output']}x{channels}"
        macs = total(of_row, "multiply-adds")
        assert params == (f"{sum(map(weights, of_row)) / 1024:.1f}K" if macs else "")
        assert ops == (f"{macs / 1e6:.1f}M" if macs else "")
        names.pop(title, None)
    assert (names, list(pools)) == ({}, [])


if __name__ == "__main__":
    PAGE.write_text(rewritten())
