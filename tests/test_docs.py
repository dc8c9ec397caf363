"""The code in README.md, CONTRIBUTING.md and docs/ does what the text around it says.

A page is read as its reader would follow it, in an empty folder: files are written, Python is run,
and so is each command that needs no download and no hour; the others are composed and checked.
"""

import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from pages import OF_RESULTS, PAGES, README, ROOT, Block, blocks, inline_code

from shine_exp.figures.catalogue import plot_classes
from shine_exp.figures.command import main as shine_plot
from shine_exp.runs.compatibility import check_classes, check_objects
from shine_exp.runs.composition import (
    CONFIG_DIR,
    CONFIG_GROUPS,
    WITHIN,
    compose,
    hydra_for,
    separated,
)
from shine_exp.runs.identity import flat
from shine_exp.runs.validation import check_values
from shine_exp.status.command import main as shine_status

NOT_RUN = (  # downloads, takes minutes, or needs what this machine may not have
    *("20news", "real_sim", "cifar10", "libsvm", "image_folder", "experiment=", "mdeq"),
    *("sudoku", "architecture", "hydra/launcher", "cuda", "threads", "tracker="),
)
OF_READERS = {"ridge", "two_penalties", "svm", "shrinkage", "toy"}  # problems that the pages make
OTHER_COMMANDS = ("make", "pip", "python", "pytest", ".", ".venv/bin/pytest", ".venv/bin/ruff")
OTHER_COMMANDS += (".venv/bin/mypy", "torch.load", "SHINE_TEST_THREADS=2")


def str_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def reader(
    shine_run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> Iterator["Reader"]:
    """Follows a page, in an empty folder from which modules are imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Reader(shine_run, monkeypatch, capsys)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


class Reader:
    """Does what a block says, in the current folder."""

    def __init__(self, shine_run, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
        self.shine_run, self.monkeypatch, self.capsys = shine_run, monkeypatch, capsys
        self.names: dict[str, Any] = {}

    def follow(self, block: Block) -> None:
        if block.file is not None and not block.file.startswith("test_"):
            path = Path(block.file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        elif block.language == "python":
            exec(compile(block.text, block.where, "exec"), self.names)
            for name, test in list(self.names.items()):
                if name.startswith("test_"):
                    test()
                    del self.names[name]
        elif block.language == "console":
            self._compare(block)
        elif block.language in ("indented", "sh"):
            for line in block.text.splitlines():
                self.command(line, block.where)
        else:
            assert block.language in ("yaml", "text"), block.where
            assert block.language == "text", f"{block.where}: name the file before it"

    def command(self, line: str, where: str) -> str:
        """What a command prints."""
        words = shlex.split(line, comments=True) if is_command(line) else []
        if not words:
            return ""
        if words[0] == "torchrun":
            check(words[words.index("shine-run") + 1 :])
            return ""
        if words[0] == "shine-run":
            if any(word in line for word in NOT_RUN):
                check(words[1:])
                return ""
            outcome = self.shine_run(*words[1:])
            assert outcome.code == 0, f"{where}: {line}: {outcome.err}"
            return str(outcome.out)
        if words[0] == "shine-plot":
            return self._plot(words[1:], where)
        if words[0] == "shine-status":
            return self._status(words[1:])
        assert words[0] in OTHER_COMMANDS, f"{where}: {line}"
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        if words[0] == "python" and words[1].endswith(".py"):
            assert (ROOT / words[1]).is_file(), f"{where}: {line}"
        return ""

    def _plot(self, arguments: list[str], where: str) -> str:
        names = [b for a, b in pairwise(arguments) if a == "--figure"]
        known = {each.name for each in plot_classes()}
        assert {name.partition("-")[0] for name in names} <= {n.partition("-")[0] for n in known}
        if not Path("results").is_dir():
            return ""
        self.monkeypatch.setattr(sys, "argv", ["shine-plot", *arguments])
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            shine_plot()
        printed = self.capsys.readouterr()
        assert end.value.code == 0, f"{where}: {printed.err}"
        return str(printed.out)

    def _status(self, arguments: list[str]) -> str:
        if not Path("results").is_dir() or "--watch" in arguments:
            return ""
        self.monkeypatch.setattr(sys, "argv", ["shine-status", *arguments])
        self.capsys.readouterr()
        shine_status()
        return str(self.capsys.readouterr().out)

    def _compare(self, block: Block) -> None:
        """Each line that a page shows below a command is one that the command prints."""
        command, *shown = block.text.splitlines()
        printed = self.command(command.removeprefix("$ "), block.where).splitlines()
        there = [_without_time(line).split() for line in printed]
        for line in shown:
            words = _without_time(line).split()
            same = [found for found in there if found and found[0] == words[0]]
            assert same, f"{block.where}: not printed: {line}"
            assert _agree(same[0], words), f"{block.where}: {line}, but it is {same[0]}"


def _without_time(line: str) -> str:
    return re.sub(r"\b\d+\.\d+ s$", "", line)


def _agree(found: list[str], shown: list[str]) -> bool:
    """Words are the same; numbers as near as they are on other processors."""
    try:
        return float(found[1]) == pytest.approx(float(shown[1]), rel=1e-2)
    except ValueError:
        return found == shown


def is_command(line: str) -> bool:
    """Whether an indented line is a command, and no formula or tree of files."""
    first = line.partition(" ")[0]
    return first in ("shine-run", "shine-plot", "shine-status", "torchrun", *OTHER_COMMANDS)


def check(arguments: Sequence[str]) -> None:
    """Compose a command, each run of a sweep by itself, and check all but its data."""
    folders = [a.partition("=")[2] for a in arguments if a.startswith("--config-dir=")]
    overrides = [a for a in arguments if not a.startswith("-") and not a.startswith("seed=")]
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    (runs,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    for run in runs:
        with hydra_for(*folders) as hydra:
            composed = separated(compose(hydra, run))
            check_classes(composed.config, composed.choices)
            check_values(composed.config)
            check_objects(composed.config, composed.choices)


@pytest.mark.parametrize("page", PAGES, ids=str_of)
def test_code_of_a_page_runs(page: Path, reader: Reader) -> None:
    for block in blocks(page):
        reader.follow(block)


def test_layer_of_the_readme_is_solved_and_differentiated(reader: Reader) -> None:
    for block in blocks(README):
        if "layer = DEQ(" in block.text:
            reader.follow(block)
    layer = reader.names["layer"]
    assert float(layer.last.forward_residual.max()) < 1e-4
    assert 0 < float(layer.last.backward_residual.max()) < 1
    assert layer.last.products == 0
    assert all(p.grad is not None for p in layer.parameters())


@pytest.mark.parametrize("page", [*PAGES, *OF_RESULTS], ids=str_of)
def test_commands_within_the_text_compose(page: Path, reader: Reader) -> None:
    for code in inline_code(page):
        if code.startswith("shine-run ") and not {"--help", "mine"} & set(re.split("[ =]", code)):
            check(shlex.split(code)[1:])


def options() -> dict[str, set[str]]:
    """The options of every group."""
    groups = (*CONFIG_GROUPS, *WITHIN, "experiment")
    return {group: {path.stem for path in (CONFIG_DIR / group).glob("*.yaml")} for group in groups}


@pytest.fixture(scope="module")
def keys() -> set[str]:
    """Every dotted key that some command could set."""
    found: set[str] = set()
    commands = [[f"{group}={one}"] for group in CONFIG_GROUPS for one in sorted(options()[group])]
    commands += [["problem=mdeq", f"method={one}"] for one in ("full", "refine", "neumann")]
    with hydra_for() as hydra:
        for overrides in commands:
            found |= set(flat(OmegaConf.to_container(compose(hydra, overrides), resolve=False)))
    return found


@pytest.mark.parametrize("page", [*PAGES, *OF_RESULTS], ids=str_of)
def test_options_within_the_text_exist(page: Path, keys: set[str]) -> None:
    known = options() | {"problem": options()["problem"] | OF_READERS}
    for code in inline_code(page):
        name, is_option, value = code.partition("=")
        if not is_option or not re.fullmatch(r"[a-z_./]+", name) or " " in code:
            continue
        if name in known:
            assert not re.fullmatch(r"[\w,]+", value) or set(value.split(",")) <= known[name], code
        elif "." in name and name.partition(".")[0] in (*CONFIG_GROUPS, "runtime"):
            assert name in keys, code


@pytest.mark.parametrize("page", [*PAGES, *OF_RESULTS], ids=str_of)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=str_of)
def test_lines_of_a_page_are_short(page: Path) -> None:
    long = [line for line in page.read_text().splitlines() if len(line) > 119]
    assert [line for line in long if not line.startswith("|")] == []


def test_readme_is_a_front_door() -> None:
    lines = README.read_text().splitlines()
    assert len(lines) <= 150
    assert [line for line in lines if len(line) > 119] == []
    assert sum(bool(re.fullmatch(r"[|\- ]+", line)) for line in lines) <= 3


def test_problem_of_the_readme_is_short() -> None:
    (problem,) = [block for block in blocks(README) if block.file == "ridge.py"]
    assert len(problem.text.splitlines()) <= 30


def test_task_of_the_docs_is_the_one_that_is_tested() -> None:
    folder = ROOT / "tests" / "training" / "outside_task"
    shown = {block.file: block.text for block in blocks(ROOT / "docs" / "extending.md")}
    assert shown["toy.py"] == (folder / "toy.py").read_text()
    assert shown["mine/problem/toy.yaml"] == (folder / "problem" / "toy.yaml").read_text()
    assert len(shown["toy.py"].splitlines()) < 60


def test_contributing_is_short() -> None:
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 120


def test_a_command_with_a_wrong_key_fails() -> None:
    for wrong in ("method.inverse.max_steps=3", "method=nothing", "solver=broyden"):
        with pytest.raises(Exception, match=r"inverse|nothing|take solver"):
            check([wrong, "data=20news"])
