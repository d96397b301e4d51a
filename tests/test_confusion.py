"""Tables and pictures of which class is taken for which."""

import csv
import io

import numpy as np

from dnn_research import confusion

MATRIX = np.array([[3, 1, 0, 0], [0, 0, 0, 0], [2, 0, 5, 1], [0, 0, 0, 4]])
NAMES = ("cat", "dog", "bird")


def test_each_class_has_its_accuracy_and_worst_mistake():
    cat, dog, bird, other = confusion.per_class(MATRIX, NAMES)
    assert cat == {"name": "cat", "examples": 4, "right": 3, "accuracy": 0.75, "taken_for": "dog"}
    assert dog == {"name": "dog", "examples": 0, "right": 0, "accuracy": None, "taken_for": None}
    assert bird == {"name": "bird", "examples": 8, "right": 5, "accuracy": 0.625, "taken_for": "cat"}
    assert other == {"name": "class 3", "examples": 4, "right": 4, "accuracy": 1.0, "taken_for": None}


def test_the_table_begins_with_the_least_accurate():
    lines = confusion.table(MATRIX, NAMES).splitlines()[2:]
    assert [line.split("|")[1].strip() for line in lines] == ["bird", "cat", "class 3"]
    assert lines[0] == "| bird | 8 | 5 | 62.50 % | cat |"


def test_csv_holds_the_matrix():
    rows = list(csv.reader(io.StringIO(confusion.as_csv(MATRIX, NAMES))))
    assert rows[0] == ["true class", "cat", "dog", "bird", "class 3"]
    np.testing.assert_array_equal(np.array([row[1:] for row in rows[1:]], int), MATRIX)


def test_the_picture_names_every_class_and_shows_shares():
    figure = confusion.draw(MATRIX, NAMES, title="title")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["cat", "dog", "bird", "class 3"]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "cat  75.0 %", "dog", "bird  62.5 %", "class 3  100.0 %",
    ]  # fmt: skip
    np.testing.assert_allclose(axes.images[0].get_array()[2], [25, 0, 62.5, 12.5])
    assert sorted(text.get_text() for text in axes.texts) == ["1", "1", "2", "3", "4", "5"]
    pixels = confusion.picture(MATRIX, NAMES, title="title")
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3 and pixels.std() > 10


def test_dollars_in_a_name_are_no_mathematics():
    assert confusion.picture(MATRIX, ["a$b_$", "c$", "$\\bad$", "d"], title="$x_$").std() > 10


def test_a_hundred_long_names_fit():
    matrix = np.eye(100, dtype=np.int64)
    pixels = confusion.picture(matrix, ["a class with quite a long name, number"] * 100, title="title")
    assert min(pixels.shape[:2]) > 1000
