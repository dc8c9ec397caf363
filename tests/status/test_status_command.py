"""`shine-status`: every run by its state, what is missing, and the commands that make it."""

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from shine_exp.status import figures
from shine_exp.status.command import main
from shine_exp.status.report import by_parent

STEPS = ("data=gaussian", "outer.n_steps=1")


@pytest.fixture
def shine_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """The command in this process: exit code, what it printed, and its errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["shine-status", *arguments])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def as_json(shine_status) -> Callable[[], dict]:
    def run() -> dict:
        code, out, err = shine_status("results", "--json")
        assert (code, err) == (0, "")
        return json.loads(out)

    return run


def change(folder: Path, **changes: object) -> None:
    info = json.loads((folder / "run.json").read_text()) | changes
    (folder / "run.json").write_text(json.dumps(info))


def test_every_run_is_told_by_its_state(shine_run, folders, as_json, shine_status) -> None:
    shine_run("-m", *STEPS, "seed=range(5)")
    done, running, dead, failed, diverged = folders()
    change(running, status="running")
    change(dead, status="running")
    change(failed, status="failed", reason="ValueError: no luck")
    change(diverged, status="diverged", reason="outer_loss is nan")
    with FileLock(running / ".lock"):
        states = {run["folder"]: run for run in as_json()["runs"]}
        _, out, _ = shine_status("results")
    expected = {done: "done", running: "running", dead: "dead", failed: "failed"}
    expected |= {diverged: "diverged"}
    assert {Path(name).absolute(): run["state"] for name, run in states.items()} == expected
    told = {Path(name).name: run for name, run in states.items()}
    assert told[failed.name]["reason"] == "ValueError: no luck"
    assert (told[running.name]["step"], told[running.name]["n_steps"]) == (1, 1)
    assert told[running.name]["age"] >= 0
    first, *lines = out.splitlines()
    assert first == "results: 5 runs: 1 done, 1 diverged, 1 running, 1 dead, 1 failed"
    for folder in (running, dead, failed, diverged):
        assert any(folder.name in line and "step 1 of 1" in line for line in lines)


def test_run_that_has_begun_and_left_nothing_is_told(
    shine_run, folders, as_json, shine_status
) -> None:
    shine_run(*STEPS)
    (folder,) = folders()
    (folder / "run.json").unlink()
    (run,) = as_json()["runs"]
    assert (run["state"], run["step"], run["host"]) == ("dead", 0, None)


def test_command_of_a_failed_run_redoes_that_one(shine_run, folders, shine_status, status) -> None:
    changed = ["solver=bfgs", "outer.n_steps=1", "seed=3", "data=gaussian", "method=cg"]
    shine_run(*changed)
    (folder,) = folders()
    change(folder, status="failed", reason="ValueError: no luck")
    code, out, _ = shine_status("results", "--failed")
    assert code == 0
    (command,) = out.splitlines()
    name, *arguments = shlex.split(command)
    assert name == "shine-run"
    assert shine_run(*arguments).code == 0
    assert [status(one) for one in folders()] == ["done"]


def test_command_of_a_failed_run_elsewhere_says_where(shine_run, folders, shine_status) -> None:
    shine_run(*STEPS, "runtime.results=else where")
    (folder,) = (path.parent for path in Path("else where").rglob("run.json"))
    change(folder, status="failed")
    _, out, _ = shine_status("else where", "--failed")
    assert shlex.split(out)[-1] == "runtime.results=else where"
    assert shine_run(*shlex.split(out)[1:]).code == 0


def test_nothing_failed_prints_nothing(shine_run, shine_status) -> None:
    shine_run(*STEPS)
    assert shine_status("results", "--failed") == (0, "\n", "")


def test_figure_that_has_begun_says_what_it_lacks(
    shine_run, folders, as_json, shine_status
) -> None:
    shine_run("experiment=fig_theorem", "data=gaussian", "seed=3", "outer.n_steps=1")
    assert as_json()["missing"] == [], "fewer steps are another run"
    (folder,) = folders()
    change(folder, differs={"solver": "bfgs", "outer": "theorem"})
    missing = as_json()["missing"]
    assert len(missing) == 39
    assert {(one["of"], one["command"]) for one in missing} == {
        ("fig_theorem", "shine-run -m experiment=fig_theorem")
    }
    _, out, _ = shine_status("results")
    assert "  fig_theorem  40 runs: 1 done, 39 missing" in out
    assert "    shine-run -m experiment=fig_theorem" in out


def test_folders_of_a_figure_are_those_of_its_command() -> None:
    """Of options alone, and of what has to be composed."""
    for name, overrides in {
        "fig2_left": ["problem=logreg", "data=20news", "method=opa", "seed=2"],
        "fig_softmax": ["problem.penalties=class", "method=cg", "seed=1"],
        "figE2": ["seed=2"],
    }.items():
        with figures.hydra_for() as hydra:
            runs = figures._runs(figures._load(hydra, name))
        identity = figures._identity(name, *overrides)
        assert identity.folder in [run.folder for run in runs]


def test_runs_that_are_done_are_named_by_their_seeds(tmp_path: Path) -> None:
    names = ["seed=10", "seed=9", "seed=2", "seed=0", "seed=8", "seed=3-ab", "seed=1-cd"]
    folders = [tmp_path / "logreg-20news" / "cg" / name for name in names]
    assert list(by_parent(tmp_path, folders)) == [
        "logreg-20news/cg  seed=0 seed=2 seed=8–10 seed=1-cd seed=3-ab"
    ]


def test_no_such_folder_is_one_line(shine_status, tmp_path: Path) -> None:
    assert shine_status("nowhere") == (2, "", "shine-status: no such results folder: nowhere\n")


def test_wrong_option_is_one_line(shine_status) -> None:
    code, out, err = shine_status("results", "--jsn")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "shine-status --help" in err


def test_folder_without_runs(shine_status, tmp_path: Path) -> None:
    assert shine_status(str(tmp_path)) == (0, f"{tmp_path}: no runs\n", "")


def test_live_table_shows_what_the_text_does(shine_run, folders) -> None:
    pytest.importorskip("rich")
    from rich.console import Console

    from shine_exp.status.report import gather
    from shine_exp.status.table import table

    shine_run(*STEPS)
    (folder,) = folders()
    change(folder, status="failed", reason="ValueError: [red]no luck")
    console = Console(width=120)
    with console.capture() as captured:
        console.print(table(gather(Path("results"))))
    assert "results: 1 run: 1 failed" in captured.get()
    assert "ValueError: [red]no luck" in captured.get()
