"""Sweeps disturbed at random, on every launcher: each must end with all its runs, whole.

    scripts/chaos_sweeps.py                                     5 of each launcher and event
    scripts/chaos_sweeps.py --trials 20 --launchers joblib      20 of each event, on one launcher

Each trial starts a sweep, lets something happen to it at a random moment, and gives the same
command again until it exits with 0, three times at most. Every run must then be done, once, with
the numbers of an undisturbed sweep. `slurm` takes the SLURM that SLURM_CONF names. Exit code 1 if
anything was wrong. The moments are drawn by the seed, as times: what they hit depends on the
machine.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

SWEEP = ("data=gaussian", "method=shine,cg", "seed=0,1", "outer.n_steps=150")
N_RUNS = 4
LAUNCHERS = {
    "basic": (),
    "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    "submitit_local": ("hydra/launcher=submitit_local",),
    "slurm": ("hydra/launcher=slurm", "hydra.launcher.mem_gb=1"),
}
PATIENCE = 300  # seconds for any sweep


class Wrong(Exception):
    """What must not happen."""


@dataclass(frozen=True)
class Trial:
    """A sweep in its folder: its command, and what of it is at work."""

    folder: Path
    launcher: str

    def start(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "shine_exp.runs.command", "-m", *SWEEP]
        command += [*LAUNCHERS[self.launcher], "runtime.checkpoint_every=0"]
        with (self.folder / "out").open("a") as out:
            return subprocess.Popen(
                command, cwd=self.folder, stdout=out, stderr=out, text=True, start_new_session=True
            )

    def runs(self) -> Iterator[tuple[str, dict]]:
        """Each run that has begun, by its name, with its run.json, which parses at any time."""
        for path in sorted(self.folder.glob("results/*/*/*/run.json")):
            yield str(path.parent.relative_to(self.folder)), json.loads(path.read_text())

    def at_work(self) -> list[dict]:
        return [info["starts"][-1] for _, info in self.runs() if info["status"] == "running"]

    def numbers(self) -> dict[str, pd.DataFrame]:
        """The traces as text, without their clock."""
        traces = self.folder.glob("results/*/*/*/trace.csv")
        return {
            str(path.parent.relative_to(self.folder)): pd.read_csv(
                path, dtype=str, keep_default_na=False
            ).drop(columns="time")
            for path in traces
        }

    def until_a_run_is_at_work(self, front: "subprocess.Popen[str]") -> None:
        deadline = time.monotonic() + PATIENCE
        while not self.at_work() and front.poll() is None:
            if time.monotonic() > deadline:
                raise Wrong("no run has begun")
            time.sleep(0.02)


def nothing(trial: Trial, front: "subprocess.Popen[str]") -> None:
    """To compare with."""


def kill_run(trial: Trial, front: "subprocess.Popen[str]") -> None:
    for start in trial.at_work()[:1]:
        send(start["pid"], signal.SIGKILL)


def end_run(trial: Trial, front: "subprocess.Popen[str]") -> None:
    for start in trial.at_work()[:1]:
        send(start["pid"], signal.SIGTERM)


def kill_sweep(trial: Trial, front: "subprocess.Popen[str]") -> None:
    send(front.pid, signal.SIGKILL)


def end_sweep(trial: Trial, front: "subprocess.Popen[str]") -> None:
    send(front.pid, signal.SIGTERM)


def interrupt_terminal(trial: Trial, front: "subprocess.Popen[str]") -> None:
    """Ctrl-C, which all processes of the terminal get."""
    if front.poll() is None:
        os.killpg(front.pid, signal.SIGINT)


def second_sweep(trial: Trial, front: "subprocess.Popen[str]") -> None:
    trial.start().wait(PATIENCE)


def cancel_job(trial: Trial, front: "subprocess.Popen[str]") -> None:
    of_slurm(trial, "scancel")


def requeue_job(trial: Trial, front: "subprocess.Popen[str]") -> None:
    of_slurm(trial, "scontrol", "requeue")


def of_slurm(trial: Trial, *command: str) -> None:
    for start in trial.at_work()[:1]:
        subprocess.run([*command, str(start["job_id"])], capture_output=True, check=False)


def send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it was faster
        os.kill(pid, number)


Event = Callable[[Trial, "subprocess.Popen[str]"], None]
EVENTS: tuple[Event, ...] = (
    kill_run,
    end_run,
    kill_sweep,
    end_sweep,
    interrupt_terminal,
    second_sweep,
)
OF_SLURM: tuple[Event, ...] = (cancel_job, requeue_job)


def attempt(trial: Trial, event: Event, draw: random.Random) -> str:
    """How often the command was given in all. Raises `Wrong`."""
    front = trial.start()
    trial.until_a_run_is_at_work(front)
    time.sleep(draw.uniform(0, 1.5))
    event(trial, front)
    code = front.wait(PATIENCE)
    n_commands = 1
    while code != 0 or (event is not nothing and n_commands == 1):
        if n_commands == 4:
            raise Wrong(f"exit code {code}: {(trial.folder / 'out').read_text()[-2000:]}")
        code = trial.start().wait(PATIENCE)
        n_commands += 1
    return f"{n_commands} commands"


def check(trial: Trial, expected: dict[str, pd.DataFrame]) -> None:
    """Raises `Wrong` unless every run is done, once, with the numbers that it should have."""
    for name, info in trial.runs():
        statuses = [start["status"] for start in info["starts"]]
        if info["status"] != "done" or statuses.count("done") != 1:
            raise Wrong(f"{name}: {', '.join(statuses)}")
        if not set(statuses) <= {"killed", "interrupted", "done"}:
            raise Wrong(f"{name}: {', '.join(statuses)}")
    found = trial.numbers()
    if found.keys() != expected.keys():
        raise Wrong(f"{len(found)} runs for {len(expected)}")
    if other := [name for name in found if not found[name].equals(expected[name])]:
        raise Wrong(f"another trace: {', '.join(other)}")
    if left := list(trial.folder.rglob("*.tmp")):
        raise Wrong(f"left behind: {', '.join(map(str, left))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=5, help="of each launcher and event")
    usual = [name for name in LAUNCHERS if name != "slurm" or "SLURM_CONF" in os.environ]
    parser.add_argument("--launchers", nargs="+", choices=LAUNCHERS, default=usual)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="chaos-sweeps-"))
    first = Trial(root / "undisturbed", "basic")
    first.folder.mkdir()
    attempt(first, nothing, random.Random(options.seed))
    expected = first.numbers()
    n_wrong = 0
    print(f"{'launcher':<16}{'event':<20}{'tried':>6}{'survived':>10}{'lost':>6}  commands given")
    for launcher in options.launchers:
        for event in (*EVENTS, *(OF_SLURM if launcher == "slurm" else ())):
            ends: Counter[str] = Counter()
            for index in range(options.trials):
                trial = Trial(root / f"{launcher}-{event.__name__}-{index}", launcher)
                trial.folder.mkdir()
                draw = random.Random(f"{options.seed} {trial.folder.name}")
                try:
                    ends[attempt(trial, event, draw)] += 1
                    check(trial, expected)
                    shutil.rmtree(trial.folder)  # of what went wrong, it is kept
                except (Wrong, subprocess.TimeoutExpired) as error:
                    n_wrong += 1
                    ends["WRONG"] += 1
                    print(f"WRONG {trial.folder}: {error}")
            lost = ends.pop("WRONG", 0)
            told = ", ".join(f"{n} × {end}" for end, n in sorted(ends.items()))
            counts = f"{options.trials:>6}{options.trials - lost:>10}{lost:>6}"
            print(f"{launcher:<16}{event.__name__:<20}{counts}  {told}", flush=True)
    if n_wrong:
        sys.exit(f"{n_wrong} wrong; what they left is in {root}")
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
