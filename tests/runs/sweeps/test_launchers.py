"""Launchers behave alike, whatever happens to a run: the rest goes on, and all is told truly."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from shine_exp.runs.sweeps.job import POOLS, Job

LAUNCHERS = [
    pytest.param(("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"), id="joblib"),
    pytest.param(
        ("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"),
        id="submitit_local",
        marks=pytest.mark.slow,
    ),
]


def statuses(folder: Path) -> dict[str, str]:
    found = sorted(folder.rglob("run.json"))
    return {path.parent.name[:6]: json.loads(path.read_text())["status"] for path in found}


def rows(out: str) -> dict[str, list[str]]:
    """The table at the end: seed → the words after the run's name."""
    lines = [line.split() for line in out.splitlines() if line.startswith("at_risk-")]
    return {words[0].rpartition("/")[2][:6]: words[1:] for words in lines}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_rest_of_a_sweep_goes_on_and_the_same_command_finishes_it(
    launcher: tuple[str, ...], sweep, at_risk: Path
) -> None:
    """One run is killed, one refused, one fails, and one is done."""
    command = (*launcher, "seed=range(4)", "problem.killed=0", "problem.refused=1")
    first = sweep(*command, "problem.broken=2")
    assert first.returncode == 1, first.stderr
    assert "0 done already, 4 submitted, logs in results/.launcher" in first.stdout
    told = rows(first.stdout)
    assert [told[seed][0] for seed in sorted(told)] == ["missing", "refused", "failed", "done"]
    assert "no data today" in " ".join(told["seed=1"])
    assert "ValueError: no luck" in " ".join(told["seed=2"])
    assert statuses(at_risk) == {"seed=2": "failed", "seed=3": "done"}
    (kept,) = (at_risk / "results" / ".launcher").glob("*.txt")
    assert kept.read_text() in first.stdout
    (at_risk / "spared").touch()
    again = sweep(*command, "problem.broken=2")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "1 done already, 3 submitted" in again.stdout
    assert set(statuses(at_risk).values()) == {"done"}
    assert again.stdout.endswith("4 runs: 4 done\n")


def test_interrupted_sweep_ends_its_runs_after_their_step(sweep, at_risk: Path) -> None:
    """By a signal to the launcher, while both runs are at work."""
    command = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=1", "seed=0,1")
    first = sweep(*command, "problem.ends_the_sweep=0", "outer.n_steps=2000")
    assert first.returncode == 130, first.stderr
    assert first.stderr.endswith("shine-run: interrupted; the same command goes on from here\n")
    assert rows(first.stdout)["seed=0"][0] == "interrupted"
    assert rows(first.stdout)["seed=1"] == ["missing"]
    assert statuses(at_risk) == {"seed=0": "interrupted"}
    (folder,) = (path.parent for path in at_risk.rglob("run.json"))
    FileLock(folder / ".lock", timeout=0).acquire()  # nobody is at work on it any more


def test_threads_of_a_job_are_bounded_and_its_output_is_in_its_log(tmp_path: Path) -> None:
    script = (
        "import os\n"
        "from pathlib import Path\n"
        "from shine_exp.runs.sweeps.job import Job\n"
        f"Job('cg-seed=1', ['--version'], Path('job'), 3)()\n"
        f"print(*(os.environ[name] for name in {POOLS!r}))\n"
    )
    line = [sys.executable, "-c", script]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    version, threads = (tmp_path / "job" / "log.txt").read_text().splitlines()
    assert version.startswith("shine-exp ")
    assert threads == "3 3 3"


def test_interrupted_job_leaves_it_to_the_scheduler_whether_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shine_exp.runs import command
    from shine_exp.runs.sweeps import job

    monkeypatch.setattr(job, "print_into", lambda path: None)
    for name in POOLS:
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    monkeypatch.setattr(sys, "argv", [])
    for code, goes_on in ((0, False), (2, False), (130, True), (144, True)):
        monkeypatch.setattr(command, "main", lambda code=code: sys.exit(code))
        if goes_on:
            with pytest.raises(SystemExit):
                Job("cg-seed=1", [], tmp_path, 1)()
        else:
            Job("cg-seed=1", [], tmp_path, 1)()
