"""What a title calls the problems, the data and the place of a run."""

import re
from pathlib import Path

from shine_exp.runs.run import Run

DATA_NAMES = {
    "20news": "20newsgroups",
    "20news_classes": "20newsgroups, twenty classes",
    "real_sim": "real-sim",
    "breast_cancer": "breast cancer",
    "cifar10": "CIFAR-10",
    "digits_images": "digits",
    "digits_classes": "digits, ten classes",
    "image_folder": "image folder",
    "turned_digits": "turned digits",
}
PROBLEM_NAMES = {
    "logreg": "logistic regression",
    "nls": "non-linear least squares",
    "softmax": "softmax regression",
    "cleaning": "data cleaning",
    "mdeq": "MDEQ",
    "augment": "augmentation",
    "sudoku": "Sudoku",
}
CHANGES = {  # a key that differs from its default → what its value is called
    "data.path": "{}",
    "data.subset": "{} training images",
    "data.test_subset": "{} test images",
    "method.max_steps": "{} backward steps",
    "method.steps.max_steps": "{} backward steps",
    "method.inverse.max_steps": "{} backward steps",  # as it was called before
    "method.inverse.steps.max_steps": "{} backward steps",
    "outer.compare_every": "at each {}th step",
    "outer.epochs": "{} epochs",
    "outer.n_steps": "{} outer steps",
    "outer.train.epochs": "{} epochs",
    "problem.groups": "{} groups",
    "problem.penalties": "{} penalties",
    "problem.price": "price {} a parameter",
    "problem.wrong": "{} of the labels wrong",
    "problem/model": "{}",
    "solver.memory": "{} secant pairs",
}
VALUES = {  # a key and its value → what it is called
    ("outer", "adam"): "by Adam",
    ("outer.compare", True): "exact hypergradients beside",
    ("outer.compare_every", 1): "at each step",
    ("problem.grouping", "frequency"): "groups by document frequency",
    ("problem.penalties", 1): "one penalty",
    ("problem.penalties", "class"): "a penalty per class",
    ("problem.penalties", "feature"): "a penalty per feature",
    ("problem.per_class", True): "ranges per class",
    ("problem/model", "mlp"): "a layer of tanh units",
}
NO_DATA = "none"  # the choice of a problem that takes no data set


def data_name(data: str) -> str:
    """The data's name in a title; a synthetic stand-in is called one."""
    real = data.removeprefix("synthetic_")
    if data != real and real in DATA_NAMES:
        return f"synthetic stand-in for {DATA_NAMES[real]}"
    return DATA_NAMES.get(data, data)


def problem_name(run: Run) -> str:
    problem = str(run.info["choices"]["problem"])
    return PROBLEM_NAMES.get(problem, problem)


def changed(key: str, value: object) -> str:
    """What differs from the default, in words; of a path the last part.

    A key without words of its own is told by its parts: `solver tol 0.1`.
    """
    for known, words in VALUES.items():  # no look-up: a value may be a list, which has no hash
        if known == (key, value):
            return words
    shown = Path(str(value)).name if key == "data.path" else value
    if key not in CHANGES:
        return f"{re.sub('[._/]', ' ', key)} {shown}"
    words = CHANGES[key].replace("{}", str(shown))
    return words.removesuffix("s") if value == 1 else words


def place_title(run: Run) -> str:
    """The problem and the data in words; the problem alone where it takes no data."""
    return ", ".join([problem_name(run), *data_part(run)])


def data_part(run: Run) -> list[str]:
    """The data as a part of a title: none where the problem takes none."""
    data = run.info["choices"]["data"]
    return [] if data == NO_DATA else [data_name(data)]
