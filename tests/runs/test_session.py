"""A loop at work in its folder: interrupted, broken off, damaged; and what run.json then says."""

import errno
import json
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from shine_exp.bilevel.loops.adam import Adam
from shine_exp.bilevel.loops.descent import Descent
from shine_exp.bilevel.loops.search import Bayesian, Search
from shine_exp.bilevel.studies.inversion_quality import InversionQuality
from shine_exp.bilevel.studies.theorem import Theorem
from shine_exp.errors import UserError
from shine_exp.runs import checkpoint
from shine_exp.runs.run import load_run
from shine_exp.runs.session import missed
from shine_exp.runs.signals import INTERRUPTS

LOOPS = (Adam, Descent, Search, InversionQuality, Theorem)
N_STEPS = 5
STEPS = f"outer.n_steps={N_STEPS}"
GAUSSIAN = ("data=gaussian", STEPS)
COMMANDS = {
    "shine": GAUSSIAN,
    "cg": ("method=cg", *GAUSSIAN),
    "unroll": ("method=unroll", *GAUSSIAN),
    "adam": ("problem=cleaning", "problem.n_train=100", "problem.n_outer=60", STEPS),
    "grid": ("method=grid", *GAUSSIAN),
    "random": ("method=random", *GAUSSIAN),
    "bayes": ("method=bayes", *GAUSSIAN),
    "inversion_quality": ("outer=inversion_quality", STEPS),
    "theorem": ("outer=theorem", *GAUSSIAN),
}


def info(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def same_numbers(a: pd.DataFrame, b: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(a.drop(columns="time"), b.drop(columns="time"))


@pytest.fixture(autouse=True)
def no_interrupt_is_ignored() -> Iterator[None]:
    """As SIGHUP is where the tests are run by nohup."""
    ignored = [number for number in INTERRUPTS if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch, shine_run):
    """Run the command, and call `what` before the step that follows this one."""

    def run(step: int, what: Callable[[], object], *command: str):
        with monkeypatch.context() as patch:
            for loop in LOOPS:

                def stepping(self, problem, state, inner=loop.step):
                    if state.step == step:
                        what()
                    return inner(self, problem, state)

                patch.setattr(loop, "step", stepping)
            return shine_run(*command)

    return run


@pytest.fixture
def interrupted(at_step, folders) -> Path:
    """The folder of GAUSSIAN, interrupted after its third step."""
    assert at_step(2, partial(signal.raise_signal, signal.SIGTERM), *GAUSSIAN).code == 130
    (folder,) = folders()
    return folder


@pytest.fixture
def ends_as_undisturbed(shine_run, folders, status, trace):
    """Run the command to its end, and compare its trace with that of a run that nothing has
    happened to.
    """

    def check(*command: str) -> None:
        outcome = shine_run(*command)
        assert (outcome.code, outcome.err) == (0, "")
        (folder,) = folders()
        assert status(folder) == "done"
        assert not (folder / "checkpoint.pt").exists()
        assert list(folder.glob("*.tmp")) == []
        shine_run(*command, "runtime.results=whole")
        same_numbers(trace(folder), trace(Path("whole") / folder.relative_to(folder.parents[2])))

    return check


@pytest.mark.parametrize(
    ("loop", "number"),
    [*zip(COMMANDS, (*INTERRUPTS, *INTERRUPTS), strict=False)],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_interrupt_waits_for_end_of_step_in_every_loop(
    at_step, folders, trace, ends_as_undisturbed, loop: str, number: signal.Signals
) -> None:
    command = COMMANDS[loop]
    outcome = at_step(2, partial(signal.raise_signal, number), *command)
    assert outcome.code == 130
    assert outcome.err == "shine-run: interrupted; the same command goes on from here\n"
    (folder,) = folders()
    assert info(folder)["status"] == "interrupted"
    assert trace(folder).step.iloc[-1] == "3", "the step was taken to its end"
    ends_as_undisturbed(*command)
    assert [entry["status"] for entry in info(folder)["starts"]] == ["interrupted", "done"]


def test_interrupt_that_a_library_swallows_is_noticed(
    shine_run, folders, trace, ends_as_undisturbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SciPy's compiled Sobol sampler does with whatever a handler raises in its callback."""

    def propose(self, trials, inner=Bayesian.__call__):
        if len(trials.points) == 3:
            try:
                signal.raise_signal(signal.SIGINT)
            except BaseException:
                return np.zeros(trials.points.shape[1])
        return inner(self, trials)

    with monkeypatch.context() as patch:
        patch.setattr(Bayesian, "__call__", propose)
        assert shine_run(*COMMANDS["bayes"]).code == 130
    (folder,) = folders()
    assert trace(folder).step.iloc[-1] == "4"
    ends_as_undisturbed(*COMMANDS["bayes"])


def test_interrupt_in_last_step_finds_the_run_done(at_step, folders, status) -> None:
    outcome = at_step(N_STEPS - 1, partial(signal.raise_signal, signal.SIGTERM), *GAUSSIAN)
    assert outcome.code == 130
    (folder,) = folders()
    assert status(folder) == "done"


@pytest.mark.parametrize("loop", ["shine", "bayes", "theorem"])
def test_run_whose_minutes_are_over_goes_on_by_the_same_command(
    shine_run, folders, status, trace, ends_as_undisturbed, loop: str
) -> None:
    """Of a time that no step fits into, every command does one."""
    for step in (1, 2):
        outcome = shine_run(*COMMANDS[loop], "runtime.max_minutes=1e-9")
        assert outcome.code == 130
        assert outcome.err == "shine-run: interrupted; the same command goes on from here\n"
        why = "the 1e-09 min of runtime.max_minutes are over"
        (folder,) = folders()
        assert f"{folder.relative_to(Path.cwd())}: {why}, after step {step} of " in outcome.out
        assert (status(folder), info(folder)["reason"]) == ("interrupted", why)
        assert trace(folder).step.iloc[-1] == str(step)
    ends_as_undisturbed(*COMMANDS[loop], "runtime.max_minutes=1000")
    assert "reason" not in info(folder)
    assert [entry["status"] for entry in info(folder)["starts"]] == ["interrupted"] * 2 + ["done"]


def test_run_whose_minutes_are_over_with_its_last_step_is_done(shine_run, folders, status) -> None:
    outcome = shine_run("data=gaussian", "outer.n_steps=1", "runtime.max_minutes=1e-9")
    (folder,) = folders()
    assert (outcome.code, status(folder)) == (0, "done")


def test_ignored_interrupt_ends_nothing(at_step, folders, status) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert at_step(2, partial(signal.raise_signal, signal.SIGHUP), *GAUSSIAN).code == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    (folder,) = folders()
    assert status(folder) == "done"


def test_interrupt_between_runs_of_a_sweep_ends_it(
    shine_run, folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hydra._internal.core_plugins import basic_launcher

    def configure_log(
        *arguments: object, inner=basic_launcher.configure_log, **options: object
    ) -> None:
        if list(folders()):
            signal.raise_signal(signal.SIGTERM)
        inner(*arguments, **options)

    monkeypatch.setattr(basic_launcher, "configure_log", configure_log)
    outcome = shine_run("-m", "seed=0,1,2", *GAUSSIAN)
    assert (outcome.code, outcome.err.splitlines()[-1][:22]) == (130, "shine-run: interrupted")
    assert len(folders()) == 1


def test_interrupt_while_data_is_read_ends_at_once(
    shine_run, folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*arguments: object) -> None:
        signal.raise_signal(signal.SIGUSR1)
        pytest.fail("the data is still read")

    monkeypatch.setattr("shine_exp.runs.runner.load", load)
    assert shine_run(*GAUSSIAN).code == 130
    assert folders() == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda trace: b"",
        lambda trace: trace[: trace.index(b"\n") + 1],
        lambda trace: trace[:-1],
        lambda trace: trace[: len(trace) // 2],
        lambda trace: trace.replace(b"\r\n2,", b"\r\n3,"),
        lambda trace: trace + trace[trace.rindex(b"\r\n3,") + 2 :],
        lambda trace: trace + b"4,1,1\r\n",
        lambda trace: trace.replace(b"step", b"stop"),
        lambda trace: b"\x00\xff garbled",
        lambda trace: None,
    ],
    ids=[
        "empty",
        "header",
        "byte",
        "half",
        "number",
        "doubled",
        "beyond",
        "column",
        "garbled",
        "gone",
    ],
)
def test_trace_that_lags_or_exceeds_its_checkpoint_is_repaired(
    interrupted: Path, ends_as_undisturbed, damage: Callable[[bytes], bytes | None]
) -> None:
    path = interrupted / "trace.csv"
    content = damage(path.read_bytes())
    path.unlink() if content is None else path.write_bytes(content)
    ends_as_undisturbed(*GAUSSIAN)


def test_repaired_trace_is_told_of(interrupted: Path, shine_run) -> None:
    (interrupted / "trace.csv").write_bytes(b"")
    assert "trace.csv lacked rows, or had others; written anew" in shine_run(*GAUSSIAN).out


def test_links_in_a_folder_from_elsewhere_are_not_followed(
    interrupted: Path, tmp_path: Path, ends_as_undisturbed
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    for name in ("trace.csv", "trace.tmp", "run.tmp", "config.tmp", "checkpoint.pt.tmp"):
        (interrupted / name).unlink(missing_ok=True)
        (interrupted / name).symlink_to(victim)
    ends_as_undisturbed(*GAUSSIAN)
    assert victim.read_bytes() == b"precious"


def changed(folder: Path, **changes: object) -> None:
    saved = checkpoint.load(folder, "cpu")
    assert saved is not None
    of_state = {name: changes.pop(name) for name in list(changes) if name in saved.state}
    checkpoint.save(folder, replace(saved, **{"state": saved.state | of_state} | changes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"theta": torch.zeros(3)}, "theta has another shape"),
        ({"alpha": torch.zeros(2, 2)}, "alpha has another shape"),
        ({"step": N_STEPS + 1}, f"its step is 6, and the run has {N_STEPS}"),
        ({"step": -1}, "its step is -1"),
        ({"step": 1}, "its trace has steps beyond 1"),
        ({"trace": "step,time\r\n0,0\r\n"}, "its trace has other columns"),
        ({"trace": ""}, "its trace has other columns"),
        ({"elapsed": float("nan")}, "its time is nan"),
        ({"config": {"seed": 1}}, "its configuration is another one"),
        ({"state": {"step": 2}}, "checkpoint.pt: not a checkpoint of this run"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_checkpoint_that_does_not_fit_is_refused(
    interrupted: Path, shine_run, changes: dict, says: str
) -> None:
    changed(interrupted, **changes)
    before = {path.name: path.read_bytes() for path in interrupted.iterdir()}
    outcome = shine_run(*GAUSSIAN)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert says in outcome.err
    assert {path.name: path.read_bytes() for path in interrupted.iterdir()} == before


def test_finished_run_whose_trace_lost_rows_is_refused(shine_run, folders) -> None:
    shine_run(*GAUSSIAN)
    (folder,) = folders()
    path = folder / "trace.csv"
    path.write_bytes(path.read_bytes()[:300])
    outcome = shine_run(*GAUSSIAN)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "trace.csv cannot be used" in outcome.err


def out_of_memory_of(kind: str) -> None:
    if kind == "torch":
        torch.empty(1 << 50)
    if kind == "numpy":
        np.empty(1 << 50)
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nSee documentation.")


@pytest.mark.parametrize("kind", ["torch", "numpy", "cuda"])
def test_out_of_memory_is_one_line_and_loses_no_step(
    at_step, folders, ends_as_undisturbed, kind: str
) -> None:
    outcome = at_step(3, partial(out_of_memory_of, kind), *GAUSSIAN)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "out of memory after step 3" in outcome.err
    (folder,) = folders()
    assert info(folder)["status"] == "failed"
    assert "\n" not in info(folder)["reason"]
    ends_as_undisturbed(*GAUSSIAN)
    assert info(folder)["starts"][1]["after_step"] == 3


def test_checkpoint_that_cannot_be_written_is_one_line(
    at_step, folders, trace, ends_as_undisturbed
) -> None:
    def obstruct() -> None:
        (folder,) = folders()
        (folder / "checkpoint.pt").unlink()
        (folder / "checkpoint.pt").mkdir()

    outcome = at_step(3, obstruct, *GAUSSIAN, "runtime.checkpoint_every=0")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "IsADirectoryError" in outcome.err
    (folder,) = folders()
    assert info(folder)["status"] == "failed"
    assert "IsADirectoryError" in info(folder)["reason"]
    assert trace(folder).step.tolist() == ["0", "1", "2", "3", "4"]
    (folder / "checkpoint.pt").rmdir()
    ends_as_undisturbed(*GAUSSIAN)


def test_full_disk_is_one_line_and_loses_no_row(
    shine_run, folders, trace, ends_as_undisturbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def stepping(self, problem, state, inner=Descent.step):
        if state.step == 3:
            monkeypatch.setattr("shine_exp.durable.append", full)
        return inner(self, problem, state)

    with monkeypatch.context() as patch:
        patch.setattr(Descent, "step", stepping)
        outcome = shine_run(*GAUSSIAN, "runtime.checkpoint_every=0")
    monkeypatch.undo()
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "No space left on device" in outcome.err
    (folder,) = folders()
    assert trace(folder).step.tolist() == ["0", "1", "2", "3"]


def test_folder_that_is_deleted_under_a_run_is_one_line(at_step, folders) -> None:
    outcome = at_step(
        3, lambda: shutil.rmtree(folders()[0]), *GAUSSIAN, "runtime.checkpoint_every=0"
    )
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "FileNotFoundError" in outcome.err


def test_failed_save_of_an_interrupted_run_is_told_of(at_step, folders) -> None:
    def obstruct() -> None:
        (folders()[0] / "checkpoint.pt").mkdir()
        signal.raise_signal(signal.SIGTERM)

    outcome = at_step(3, obstruct, *GAUSSIAN)
    assert (outcome.code, outcome.err.count("\n")) == (130, 1)
    assert "IsADirectoryError" in outcome.err
    assert info(folders()[0])["status"] == "failed"


def test_unsolved_problems_are_told_of_in_one_line(
    shine_run, folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stepping(self, problem, state, inner=Descent.step):
        state = inner(self, problem, state)
        return replace(state, unsolved_inner=3 * state.step, unsolved_backward=state.step)

    monkeypatch.setattr(Descent, "step", stepping)
    out = shine_run(*GAUSSIAN).out
    assert out.count("not solved to their tolerance") == 1
    assert (
        f"  {3 * N_STEPS} of its inner problems and {N_STEPS} of its backward solves were not "
        "solved to their tolerance (trace columns unsolved_inner, unsolved_backward); "
    ) in out
    unsolved = {"inner": 3 * N_STEPS, "backward": N_STEPS}
    assert info(folders()[0])["unsolved"] == unsolved


def test_unsolved_samples_of_a_network_have_a_total_and_no_word_below_one_in_a_hundred() -> None:
    solves = {"inner": 1000, "backward": 1000}
    assert missed("root", {"inner": 10, "backward": 2}, solves) == []
    (line,) = missed("root", {"inner": 130, "backward": 2}, solves)
    assert line.startswith("  130 of 1000 (13 %) samples in the forward pass were not solved")
    assert "scaled data" not in line
    assert "unsolved_backward" not in line
    (line,) = missed("root", {"inner": 1, "backward": 0}, {})
    assert line.startswith("  1 of its samples in the forward pass were")


def test_run_that_diverged_says_why(shine_run, folders, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "the outer loss is nan at α = 2.1"
    monkeypatch.setattr(Descent, "diverged", lambda self, state: reason if state.step else None)
    assert re.search(f"diverged after .* s: {reason}\n", shine_run(*GAUSSIAN).out)
    assert info(folders()[0])["reason"] == reason
    assert info(folders()[0])["starts"][0]["reason"] == reason
    assert f"diverged already ({reason}), nothing to do" in shine_run(*GAUSSIAN).out


def test_solved_problems_need_no_word(shine_run, folders) -> None:
    assert "tolerance" not in shine_run(*GAUSSIAN).out
    assert info(folders()[0])["unsolved"] == {"inner": 0, "backward": 0}


def test_time_that_the_process_was_stopped_is_told_of(
    at_step, folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = {"perf_counter": 0.0, "process_time": 0.0}
    for name in now:
        monkeypatch.setattr(f"shine_exp.runs.trace.time.{name}", lambda name=name: now[name])

    def stop() -> None:
        now.update(perf_counter=100.0, process_time=2.0)
        signal.raise_signal(signal.SIGCONT)

    at_step(2, stop, *GAUSSIAN)
    (folder,) = folders()
    assert info(folder)["starts"][0]["seconds_stopped"] == 98.0
    assert pd.read_csv(folder / "trace.csv").time.tolist() == [0, 0, 0, 2, 2, 2]


@pytest.mark.parametrize(
    "content", [b"\xa8garbled", b"{[", b"a: \x00"], ids=["bytes", "syntax", "zero"]
)
def test_garbled_config_is_one_line(shine_run, folders, content: bytes) -> None:
    shine_run(*GAUSSIAN)
    (folders()[0] / "config.yaml").write_bytes(content)
    outcome = shine_run(*GAUSSIAN)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "config.yaml cannot be used" in outcome.err


def test_interrupted_run_of_an_older_version_goes_on(
    interrupted: Path, ends_as_undisturbed
) -> None:
    """Its configuration lacks a key that has its default now."""
    saved = checkpoint.load(interrupted, "cpu")
    assert saved is not None
    del saved.config["outer"]["schedule"]
    checkpoint.save(interrupted, saved)
    config = yaml.safe_load((interrupted / "config.yaml").read_text())
    del config["outer"]["schedule"]
    (interrupted / "config.yaml").write_text(yaml.safe_dump(config))
    ends_as_undisturbed(*GAUSSIAN)


def test_finished_run_keeps_its_solution(shine_run, folders) -> None:
    shine_run(*GAUSSIAN)
    (folder,) = folders()
    solution = load_run(folder).solution
    assert {name: tuple(value.shape) for name, value in solution.items()} == {
        "alpha": (1,),
        "theta": (30,),
    }
    last = float(load_run(folder).trace.alpha.iloc[-1])
    assert float(solution["alpha"]) == pytest.approx(last, rel=1e-9)
    (folder / "solution.pt").write_bytes(b"garbled")
    with pytest.raises(UserError, match=r"solution\.pt cannot be used"):
        assert load_run(folder).solution


@pytest.mark.parametrize(
    ("keep", "kept"), [("[]", None), ("[network]", None), ("[alpha]", "alpha")]
)
def test_run_keeps_what_it_is_told_to(shine_run, folders, keep: str, kept: str | None) -> None:
    shine_run(*GAUSSIAN, f"runtime.keep={keep}")
    (folder,) = folders()
    assert (folder / "solution.pt").exists() == (kept is not None)
    if kept is None:
        with pytest.raises(UserError, match=r"solution\.pt: there is none; the run is not done"):
            assert load_run(folder).solution
    else:
        assert list(load_run(folder).solution) == [kept]


def test_interrupted_run_keeps_no_solution(interrupted: Path) -> None:
    assert not (interrupted / "solution.pt").exists()
    assert (interrupted / "checkpoint.pt").exists()
