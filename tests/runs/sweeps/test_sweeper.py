"""A sweep of runs in this process: what it says at its start, as it goes, and at its end."""

import json
import signal
from pathlib import Path

import pytest
from filelock import FileLock

from shine_exp.bilevel.loops.descent import Descent
from shine_exp.runs.sweeps import sweeper
from shine_exp.runs.sweeps.record import load_sweeps
from shine_exp.status.report import gather

SWEEP = ("-m", "data=gaussian", "outer.n_steps=2", "method=shine,cg", "seed=0,1")


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch):
    """Call `what` with the problem before each step of a descent."""

    def patch(what) -> None:
        def stepping(self, problem, state, inner=Descent.step):
            what(problem, state)
            return inner(self, problem, state)

        monkeypatch.setattr(Descent, "step", stepping)

    return patch


def table(out: str) -> list[list[str]]:
    """The lines at the end: a run, its state, and what is known of it."""
    lines = out.splitlines()
    return [line.split(maxsplit=2) for line in lines if line.startswith("logreg-")]


def test_sweep_says_what_it_does_and_what_came_of_it(shine_run) -> None:
    shine_run(*SWEEP[1:3], "method=cg", "seed=1")
    outcome = shine_run(*SWEEP)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("1 done already, 3 submitted\n")
    assert "3 of 3: logreg-gaussian/cg/seed=0" in outcome.out
    assert outcome.out.endswith("4 runs: 4 done\n")
    assert [words[1:] for words in table(outcome.out)] == [["done", "step 2 of 2"]] * 4
    (kept,) = Path("results/.launcher").glob("sweep-*.txt")
    assert outcome.out.endswith(kept.read_text())


def test_finished_sweep_writes_nothing(shine_run) -> None:
    shine_run(*SWEEP)
    before = {p: p.stat().st_mtime_ns for p in Path("results").rglob("*")}
    outcome = shine_run(*SWEEP)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("4 done already, nothing to do\n")
    assert {p: p.stat().st_mtime_ns for p in Path("results").rglob("*")} == before


def test_every_failure_has_a_line_and_the_exit_code_is_1(shine_run, at_step) -> None:
    def fail(problem, state) -> None:
        raise ZeroDivisionError(f"not today, {state.step}")

    at_step(fail)
    outcome = shine_run(*SWEEP)
    assert outcome.code == 1
    assert [words[1] for words in table(outcome.out)] == ["failed"] * 4
    assert all("ZeroDivisionError: not today, 0" in words[2] for words in table(outcome.out))
    assert outcome.out.endswith("4 runs: 4 failed\n")
    assert outcome.err.count("Traceback") == 4, "each once, when it happened"


def test_interrupted_sweep_says_how_far_it_came(shine_run, at_step) -> None:
    def interrupt(problem, state) -> None:
        if len(list(Path("results").rglob("run.json"))) == 2:
            signal.raise_signal(signal.SIGTERM)

    at_step(interrupt)
    outcome = shine_run(*SWEEP)
    assert outcome.code == 130
    states = [words[1] for words in table(outcome.out)]
    assert states == ["done", "interrupted", "missing", "missing"]
    assert outcome.err == "shine-run: interrupted; the same command goes on from here\n"


def test_refusal_is_told_until_its_reason_is_gone(shine_run, tmp_path: Path) -> None:
    sweep = ("-m", "data=libsvm", "+data.path=there.svm", "outer.n_steps=1", "seed=0,1")
    outcome = shine_run(*sweep)
    assert outcome.code == 2
    assert [words[1] for words in table(outcome.out)] == ["refused"] * 2
    missing = gather(Path("results")).missing
    assert all("there.svm" in str(one.run.reason) for one in missing)
    rows = [f"{2 * (i % 2) - 1} 1:{i} 2:{i * i % 7}" for i in range(60)]
    (tmp_path / "there.svm").write_text("\n".join([*rows, ""]))
    outcome = shine_run(*sweep)
    assert (outcome.code, outcome.err) == (0, "")
    assert gather(Path("results")).missing == []


def test_run_of_other_data_is_refused_though_it_is_done(shine_run, tmp_path: Path) -> None:
    sweep = ("-m", "data=libsvm", "+data.path=there.svm", "outer.n_steps=1", "seed=0,1")
    rows = [f"{2 * (i % 2) - 1} 1:{i} 2:{i * i % 7}" for i in range(60)]
    (tmp_path / "there.svm").write_text("\n".join([*rows, ""]))
    assert shine_run(*sweep).code == 0
    (tmp_path / "there.svm").write_text("\n".join([*rows[1:], ""]))
    outcome = shine_run(*sweep)
    assert outcome.code == 2
    assert [words[1] for words in table(outcome.out)] == ["refused"] * 2
    assert all("was made with other data" in words[2] for words in table(outcome.out))


def test_run_that_this_machine_cannot_make_may_be_made_by_its_job(
    shine_run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The front end of a cluster has no GPU: the run is known all the same, and left to its job."""
    runs = []

    def launch(self, jobs, ended) -> None:
        runs.extend(job.name for job in jobs)

    monkeypatch.setattr(sweeper.launchers.JoblibLauncher, "run", launch)
    wanted = ("data=gaussian", "method=cg", "seed=0,1", "runtime.device=cuda")
    shine_run("-m", *wanted, "hydra/launcher=joblib")
    assert runs == ["cg-seed=0", "cg-seed=1"]


def test_run_that_another_process_leaves_is_made(
    shine_run, folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep waits for the lock, and then finds that there is work left."""
    shine_run(*SWEEP[1:3], "method=cg", "seed=0")
    folder = folders()[0]
    (folder / "run.json").unlink()
    lock = FileLock(folder / ".lock")
    lock.acquire()
    monkeypatch.setattr(sweeper, "is_locked", lambda folder: lock.release())
    outcome = shine_run("-m", *SWEEP[1:3], "method=cg", "seed=0")
    assert (outcome.code, outcome.err) == (0, "")
    assert "another process is at work on this run" in outcome.out
    assert "waiting for 1 runs that others are at work on" in outcome.out
    assert [words[1] for words in table(outcome.out)] == ["done"]


def test_record_of_a_sweep_says_how_to_make_one_run_of_it(shine_run, mine: Path) -> None:
    shine_run(
        "--config-dir=mine", "-m", "problem=ridge", "method=cg", "outer.n_steps=1", "seed=0,1"
    )
    (record,) = load_sweeps(Path("results"))
    assert record.command == (
        "shine-run --config-dir=mine -m problem=ridge method=cg outer.n_steps=1 seed=0,1"
    )
    assert record.command_of(record.runs[1]) == (
        "shine-run --config-dir=mine problem=ridge method=cg outer.n_steps=1 seed=1"
    )
    assert (Path("results") / str(record.runs[1].folder) / "run.json").is_file()


def test_sweep_has_one_record_wherever_and_however_it_is_made(shine_run) -> None:
    shine_run(
        "-m", "data=gaussian", "outer.n_steps=1", "seed=0,1", "hydra.sweeper.max_batch_size=1"
    )
    shine_run("-m", "data=gaussian", "outer.n_steps=1", "seed=0,1,2")
    shine_run("-m", "data=gaussian", "outer.n_steps=1", "seed=1,0", "runtime.checkpoint_every=5")
    assert len(list(load_sweeps(Path("results")))) == 2


def test_jobs_are_called_by_method_and_seed(shine_run, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = []

    def launch(self, given, ended) -> None:
        jobs.extend(given)

    monkeypatch.setattr(sweeper.launchers.JoblibLauncher, "run", launch)
    outcome = shine_run(*SWEEP, "hydra/launcher=joblib", "runtime.threads=1")
    assert outcome.code == 1, "nothing was made"
    names = [job.name.rpartition("-")[0] for job in jobs]
    assert names == ["shine-seed=0", "shine-seed=1", "cg-seed=0", "cg-seed=1"]
    assert shine_run(*jobs[2].arguments).code == 0
    (made,) = Path("results").rglob("run.json")
    assert json.loads(made.read_text())["choices"]["method"] == "cg"


def test_text_of_a_sweep_survives_hydras_grammar() -> None:
    from shine_exp.runs.composition import combinations

    for text in ('a "b" c', "back\\slash", "x=1,2", "$x {y} [z]"):
        ((parsed,),) = combinations([f"hydra.job.name={sweeper._quoted(text)}"])
        assert parsed.count(",") == text.count(",")
