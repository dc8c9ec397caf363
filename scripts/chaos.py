"""Single runs killed, interrupted and damaged at random: each must end with its numbers, whole.

    scripts/chaos.py                                  60 kills, 60 interrupts, 60 damaged files
    scripts/chaos.py --seed 1 --kills 200 --damages 0

Each trial starts a run, does something to it, and gives the same command again. The final trace
must be that of an undisturbed run in all columns but the clocks; after damage, a refusal in one
line is right too. A table says what was seen, and then what was wrong; exit code 1 if anything was.
Processes are forked from one that has imported everything, so that a trial costs no start. The
moments are drawn by the seed, as times: what they hit depends on the machine.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import optuna  # noqa: F401  what a run imports late is imported here, and not in each fork
import pandas as pd
import sklearn.datasets  # noqa: F401
import torch
from hydra.core.plugins import Plugins

import shine_exp.runs.runner  # noqa: F401
from shine_exp.runs.command import main as shine_run
from shine_exp.runs.signals import INTERRUPTS

NETWORK = (
    "problem=mdeq method=shine outer.epochs=2 problem.batch_size=224 data.test_fraction=0.5 "
    "outer.pretrain_steps=1 outer.n_power_steps=2 solver.max_steps=5 "
    "problem.architecture.channels=[4,8] problem.architecture.head_channels=[2,2] "
    "problem.architecture.final_channels=8 problem.architecture.expansion=1 "
    "problem.architecture.groups=2"
)
LOOPS = {
    "shine": "data=gaussian method=shine outer.n_steps=20",
    "cg": "data=gaussian method=cg outer.n_steps=15",
    "grid": "method=grid",
    "random": "method=random",
    "bayes": "method=bayes outer.n_steps=8 data=gaussian",
    "unroll": "data=gaussian method=unroll outer.n_steps=10",
    "inversion_quality": "outer=inversion_quality outer.n_steps=4",
    "theorem": "outer=theorem data=gaussian outer.n_steps=4",
    "network": NETWORK,
}
CLOCKS = ["time", "forward_ms", "backward_ms"]
PATIENCE = 300  # seconds for any run


@dataclass(frozen=True)
class Undisturbed:
    """A loop's run as it should be: command, trace, seconds before the first row and after it."""

    command: list[str]
    trace: pd.DataFrame
    before: float
    after: float


@dataclass(frozen=True)
class Ended:
    """What a process left: its exit code (−n: signal n), and what it printed."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Outcome:
    """Of a trial: what was done to which loop, how it ended, and what is wrong with that."""

    kind: str
    loop: str
    what: str
    end: str
    wrong: str | None = None


class Wrong(Exception):
    """What must not happen."""


def start(folder: Path, command: list[str]) -> int:
    """`shine-run` in a fork with a working folder; the process id."""
    folder.mkdir(parents=True, exist_ok=True)
    if (pid := os.fork()) > 0:
        return pid
    code = 1
    try:
        os.chdir(folder)
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        sys.argv = ["shine-run", *command]
        shine_run()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def wait(folder: Path, pid: int) -> Ended:
    deadline = time.monotonic() + PATIENCE
    while not has_ended(pid) and time.monotonic() < deadline:
        time.sleep(0.005)
    if late := not has_ended(pid):
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if late:
        raise Wrong(f"no end after {PATIENCE} s")
    return Ended(code, *((folder / name).read_text() for name in ("out", "err")))


def run(folder: Path, command: list[str]) -> Ended:
    return wait(folder, start(folder, command))


def run_folder(folder: Path) -> Path | None:
    """Of the only run below a working folder."""
    return next((path.parent for path in folder.glob("results/*/*/*/.lock")), None)


def has_rows(folder: Path) -> bool:
    found = run_folder(folder)
    try:
        return found is not None and (found / "trace.csv").read_bytes().count(b"\n") > 1
    except FileNotFoundError:
        return False


def numbers(folder: Path) -> pd.DataFrame:
    """The trace below a working folder as text, without its clocks."""
    found = run_folder(folder)
    assert found is not None
    trace = pd.read_csv(found / "trace.csv", dtype=str, keep_default_na=False)
    return trace.drop(columns=[name for name in CLOCKS if name in trace])


def info(folder: Path) -> dict:
    """run.json below a working folder."""
    found = run_folder(folder)
    if found is None or not (found / "run.json").exists():
        return {}
    return json.loads((found / "run.json").read_text())


def undisturbed(root: Path, loop: str) -> Undisturbed:
    command = [*LOOPS[loop].split(), "runtime.checkpoint_every=0"]
    folder = root / "undisturbed" / loop
    began = time.monotonic()
    pid = start(folder, command)
    while not has_rows(folder) and time.monotonic() - began < PATIENCE:
        time.sleep(0.005)
    first = time.monotonic()
    ended = wait(folder, pid)
    if ended.code:
        raise Wrong(f"{loop} does not run undisturbed: {ended.err}")
    return Undisturbed(command, numbers(folder), first - began, time.monotonic() - first)


def check_end(folder: Path, expected: Undisturbed, ended: Ended) -> None:
    """Raises `Wrong` unless the run below a working folder is done, and as it should be."""
    if ended.code or ended.err:
        raise Wrong(f"exit code {ended.code}: {ended.err.strip() or ended.out.strip()}")
    if (status := info(folder)["status"]) != "done":
        raise Wrong(f"its status is {status}")
    found = numbers(folder)
    if not found.equals(expected.trace):
        raise Wrong(f"another trace, of {len(found)} rows for {len(expected.trace)}")
    if left := [path.name for path in run_folder(folder).iterdir() if path.name.endswith(".tmp")]:
        raise Wrong(f"it left {', '.join(left)}")


def strike(folder: Path, expected: Undisturbed, number: int, draw: random.Random) -> Ended:
    """A run that gets a signal at a random moment: nine times of ten after its first row."""
    pid = start(folder, expected.command)
    if draw.random() < 0.9:
        while not has_rows(folder) and not has_ended(pid):
            time.sleep(0.005)
        time.sleep(draw.uniform(0, expected.after))
    else:
        time.sleep(draw.uniform(0, expected.before))
    os.kill(pid, number)  # to a process that has ended, and is not yet waited for, nothing happens
    return wait(folder, pid)


def is_one_line(text: str, begins: str) -> bool:
    return text.startswith(begins) and text.count("\n") == 1


def until_done(folder: Path, expected: Undisturbed) -> None:
    check_end(folder, expected, run(folder, expected.command))


def kill(folder: Path, expected: Undisturbed, draw: random.Random, index: int) -> tuple[str, str]:
    """One SIGKILL, or two in a row, then to the end."""
    planned = draw.choice([1, 1, 1, 2])
    n_kills = 0
    while n_kills < planned:
        if strike(folder, expected, signal.SIGKILL, draw).code == -signal.SIGKILL:
            n_kills += 1
            info(folder)  # parses at any time
        else:
            shutil.rmtree(folder)  # it was faster
            n_kills = 0
    until_done(folder, expected)
    *earlier, last = (entry["status"] for entry in info(folder)["starts"])
    if set(earlier) - {"killed"} or last != "done":
        raise Wrong(f"its history is {', '.join([*earlier, last])}")
    return "SIGKILL", f"killed {n_kills} times" if n_kills > 1 else "killed once"


def interrupt(
    folder: Path, expected: Undisturbed, draw: random.Random, index: int
) -> tuple[str, str]:
    """One of the signals that ask for an end, then to the end."""
    number = INTERRUPTS[index // 3 % len(INTERRUPTS)]
    ended = strike(folder, expected, number, draw)
    if ended.code not in (0, 130):
        raise Wrong(f"exit code {ended.code} by {number.name}: {ended.err.strip()}")
    if ended.code == 130 and not is_one_line(ended.err, "shine-run: interrupted"):
        raise Wrong(f"it said: {ended.err.strip()}")
    status = info(folder).get("status", "not begun")
    if status not in ("not begun", "interrupted", "done"):
        raise Wrong(f"its status is {status} after {number.name}")
    until_done(folder, expected)
    return number.name, "ended before" if ended.code == 0 else status


# What is done to a file; a link leads to the second path, outside; the rest is drawn.
Damage = Callable[[Path, Path, random.Random], None]


def cut(path: Path, victim: Path, draw: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content))])


def zeros(path: Path, victim: Path, draw: random.Random) -> None:
    """In place of some bytes, as a file system leaves blocks that were never written."""
    content = bytearray(path.read_bytes())
    first = draw.randrange(len(content))
    content[first : first + draw.randint(1, 512)] = bytes(len(content[first : first + 512]))
    path.write_bytes(content)


def flip(path: Path, victim: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def empty(path: Path, victim: Path, draw: random.Random) -> None:
    path.write_bytes(b"")


def delete(path: Path, victim: Path, draw: random.Random) -> None:
    path.unlink()


def garbage(path: Path, victim: Path, draw: random.Random) -> None:
    path.write_bytes(draw.randbytes(draw.randint(1, 4000)))


def folder_instead(path: Path, victim: Path, draw: random.Random) -> None:
    path.unlink()
    path.mkdir()


def link_instead(path: Path, victim: Path, draw: random.Random) -> None:
    """To the same content elsewhere, which is not ours to change."""
    path.replace(victim)
    path.symlink_to(victim)


def lines_changed(path: Path, victim: Path, draw: random.Random) -> None:
    """One lost, doubled, or of another length."""
    lines = path.read_bytes().splitlines(keepends=True)
    place = draw.randrange(len(lines))
    line = lines[place]
    lines[place : place + 1] = draw.choice([[], [line, line], [line.replace(b",", b"", 1)]])
    path.write_bytes(b"".join(lines))


DAMAGES: tuple[Damage, ...] = (
    cut,
    zeros,
    flip,
    empty,
    delete,
    garbage,
    folder_instead,
    link_instead,
    lines_changed,
)
FILES = ("trace.csv", "checkpoint.pt", "run.json", "config.yaml")


def prepared(folder: Path, expected: Undisturbed, draw: random.Random, done: bool) -> Path:
    """The folder of a run that is done, or was interrupted with a checkpoint."""
    while True:
        ended = strike(folder, expected, signal.SIGTERM, draw)
        if done:
            run(folder, expected.command)
        there = run_folder(folder)
        if there and (done or (ended.code == 130 and (there / "checkpoint.pt").exists())):
            return there
        shutil.rmtree(folder)  # the moment was too early or too late


def damage(folder: Path, expected: Undisturbed, draw: random.Random, index: int) -> tuple[str, str]:
    """A file of a run that was interrupted, or one time of four is done, then the same command."""
    there = prepared(folder, expected, draw, done=index % 4 == 3)
    name = draw.choice([name for name in FILES if (there / name).is_file()])
    way = DAMAGES[index % len(DAMAGES)]
    victim = folder / "victim"
    status = info(folder)["status"]
    way(there / name, victim, draw)
    kept = victim.read_bytes() if victim.exists() else None
    ended = run(folder, expected.command)
    if kept is not None and victim.read_bytes() != kept:
        raise Wrong(f"{name} of a run that was {status}: a link was followed")
    if ended.code == 2:
        if not is_one_line(ended.err, "shine-run: "):
            raise Wrong(f"{way.__name__} of {name} of a run that was {status}: {ended.err.strip()}")
        return f"{way.__name__} {name}", "refused"
    try:
        check_end(folder, expected, ended)
    except Wrong as wrong:
        raise Wrong(f"{way.__name__} of {name} of a run that was {status}: {wrong}") from wrong
    return f"{way.__name__} {name}", "equal"


TRIALS = {"kill": kill, "interrupt": interrupt, "damage": damage}


@dataclass(frozen=True)
class Trial:
    """One of a kind, by its number and the seed."""

    kind: str
    loop: str
    index: int
    seed: int


def attempt(root: Path, runs: dict[str, Undisturbed], trial: Trial) -> Outcome:
    folder = root / f"{trial.kind}-{trial.index}"
    draw = random.Random(f"{trial.seed} {trial.kind} {trial.index}")
    try:
        what, end = TRIALS[trial.kind](folder, runs[trial.loop], draw, trial.index)
        outcome = Outcome(trial.kind, trial.loop, what, end)
        shutil.rmtree(folder)  # of what went wrong, it is kept
        return outcome
    except Exception as error:
        wrong = f"{folder}: {error!r}"
        return Outcome(trial.kind, trial.loop, f"trial {trial.index}", "WRONG", wrong)


def trials(counts: dict[str, int], seed: int) -> list[Trial]:
    """Loops in turn; a third of the interrupts is on bayes, whose sampler swallowed them."""
    planned = []
    for kind, count in counts.items():
        others = [loop for loop in LOOPS if loop != "bayes"] if kind == "interrupt" else list(LOOPS)
        for index in range(count):
            loop = others[index * 7 % len(others)]
            if kind == "interrupt" and index % 3 == 0:
                loop = "bayes"
            planned.append(Trial(kind, loop, index, seed))
    return planned


def report(outcomes: list[Outcome]) -> str:
    """A line for each kind and loop, then what went wrong."""
    lines = [f"{'kind':<10} {'loop':<18} {'trials':>6}  ended"]
    for kind, loop in sorted({(one.kind, one.loop) for one in outcomes}):
        ends = Counter(one.end for one in outcomes if (one.kind, one.loop) == (kind, loop))
        told = ", ".join(f"{n} {end}" for end, n in sorted(ends.items()))
        lines.append(f"{kind:<10} {loop:<18} {ends.total():>6}  {told}")
    for what, n in sorted(Counter(one.what for one in outcomes if one.kind != "damage").items()):
        lines.append(f"{what:<29} {n:>6}")
    for what in sorted({one.what for one in outcomes if one.kind == "damage"}):
        ends = Counter(one.end for one in outcomes if one.what == what)
        told = ", ".join(f"{n} {end}" for end, n in sorted(ends.items()))
        lines.append(f"{what:<29} {ends.total():>6}  {told}")
    wrong = [one for one in outcomes if one.wrong]
    lines += [f"WRONG {one.kind} of {one.loop}: {one.wrong}" for one in wrong]
    return "\n".join([*lines, f"{len(outcomes)} trials, {len(wrong)} wrong"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    for kind in TRIALS:
        parser.add_argument(f"--{kind}s", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2, help="trials at a time")
    parser.add_argument("--keep", type=Path, help="a new folder for what runs leave, and stays")
    options = parser.parse_args()
    Plugins.instance()
    torch.set_num_threads(1)
    torch.backends.mkldnn.enabled = False  # it compiles kernels for every shape, in each fork again
    root = options.keep or Path(tempfile.mkdtemp(prefix="chaos-"))
    planned = trials({kind: getattr(options, f"{kind}s") for kind in TRIALS}, options.seed)
    loops = sorted({trial.loop for trial in planned})
    with ProcessPoolExecutor(options.workers, multiprocessing.get_context("fork")) as pool:
        runs = dict(zip(loops, pool.map(partial(undisturbed, root), loops), strict=True))
        outcomes = list(pool.map(partial(attempt, root, runs), planned))
    print(report(outcomes))
    if any(one.wrong for one in outcomes):
        sys.exit(f"what runs left is in {root}")
    if not options.keep:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
