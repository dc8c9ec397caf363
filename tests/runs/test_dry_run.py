"""runtime.dry_run: what would become of each run, with no data loaded and nothing written."""

import json
import signal
from pathlib import Path

import pytest
from filelock import FileLock

import shine_exp
from shine_exp.bilevel.loops.descent import Descent
from shine_exp.errors import UserError
from shine_exp.runs import problem

DRY = "runtime.dry_run=true"
RUNS = ("data=gaussian", "outer.n_steps=4", "method=cg")


def contents(root: Path) -> dict[Path, tuple[int, int]]:
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in root.rglob("*")}


@pytest.fixture
def interrupted(shine_run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed 1 of RUNS, after its second step."""

    def stepping(self, problem, state, inner=Descent.step):
        if state.step == 1:
            signal.raise_signal(signal.SIGTERM)
        return inner(self, problem, state)

    with monkeypatch.context() as patch:
        patch.setattr(Descent, "step", stepping)
        assert shine_run(*RUNS, "seed=1").code == 130


def test_dry_run_has_a_line_for_each_run_and_touches_nothing(
    shine_run, interrupted, folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shine_run(*RUNS, "seed=0")
    shine_run(*RUNS, "seed=2")
    done, resumes, locked = folders()
    (locked / "run.json").unlink()
    before = contents(tmp_path)
    monkeypatch.setattr(problem, "load", lambda config: pytest.fail("data were loaded"))
    with FileLock(locked / ".lock"):
        outcome = shine_run("-m", *RUNS, "seed=range(4)", DRY)
    assert (outcome.code, outcome.err) == (0, "")
    name = "results/logreg-gaussian/cg"
    assert outcome.out.splitlines() == [
        f"{name}/{done.name}: done already",
        f"{name}/{resumes.name}: resumes after step 2",
        f"{name}/{locked.name}: left to the process that is at work on it (unknown)",
        f"{name}/{done.name.replace('seed=0', 'seed=3')}: new",
    ]
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("solver.max_steps=-1", "solver.max_steps=-1: must be greater than or equal to 0"),
        ("solver=broyden", "solver=broyden"),
        ("runtime.device=cuda", "runtime.device=cuda: not usable here"),
    ],
)
def test_dry_run_says_what_would_be_refused(
    shine_run, tmp_path: Path, wrong: str, why: str
) -> None:
    outcome = shine_run("-m", *RUNS, "seed=0,1", wrong, DRY)
    assert outcome.code == 2
    first, second = outcome.out.splitlines()
    assert first.startswith(f"data=gaussian outer.n_steps=4 method=cg seed=0 {wrong}: refused")
    assert why in first
    assert why in second
    assert outcome.err == "shine-run: 2 of 2 runs would be refused, as is said above\n"
    assert list(tmp_path.iterdir()) == []


def test_dry_run_of_a_single_run(shine_run, interrupted, folders) -> None:
    (folder,) = folders()
    assert "resumes after step 2" in shine_run(*RUNS, "seed=1", DRY).out
    (folder / "checkpoint.pt").write_bytes(b"rubbish")
    outcome = shine_run(*RUNS, "seed=1", DRY)
    assert (outcome.code, outcome.out) == (2, "")
    assert "checkpoint.pt" in outcome.err
    (folder / "checkpoint.pt").unlink()
    assert shine_run(*RUNS, "seed=1", DRY).out.endswith(": new\n")


def test_dry_run_names_other_changes_of_a_folder(shine_run, folders) -> None:
    shine_run(*RUNS)
    (folder,) = folders()
    info = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(info | {"trace": {"rows": 1, "sha256": ""}}))
    outcome = shine_run(*RUNS, DRY)
    assert outcome.code == 2
    assert "trace.csv" in outcome.err


def test_python_makes_runs_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"runtime.dry_run: is the command's"):
        shine_exp.run(*RUNS, DRY)
