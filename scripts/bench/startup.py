"""What `shine-run` takes before its work, beside what it is built on.

    python scripts/bench/startup.py                 medians of five, in turn
    python scripts/bench/startup.py --runs 200      and a finished sweep, beside composing as many

The yardsticks are measured in the same turns: `import torch`, and a Hydra program that does
nothing. Wall-clock seconds of whole processes.
"""

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from shine_exp.runs.composition import CONFIG_DIR, separated
from shine_exp.runs.identity import identify
from shine_exp.runs.run import CONFIG, INFO

NOTHING = """
import hydra

@hydra.main(config_path=None, version_base="1.3")
def app(config): pass

app()
"""
BEFORE_ITS_WORK = """
import sys
from shine_exp.runs import command as run, runner

runner.claim = lambda folder, identity: sys.exit()  # all is read and checked
run.main()
"""
SHINE_RUN = "-m shine_exp.runs.command"
DONE = "outer.n_steps=1"
COMMANDS = {  # what is measured: the command, and the most that it may take of which yardstick
    "import torch": ("-c 'import torch'", None),
    "Hydra, --help": ("nothing.py --help", None),
    "--help": (f"{SHINE_RUN} --help", (1.5, "Hydra, --help")),
    "refused value": (f"{SHINE_RUN} solver.max_steps=-1", (1.4, "import torch")),
    "refused option": (f"{SHINE_RUN} method=nosuch", (1.4, "import torch")),
    "refused combination": (f"{SHINE_RUN} problem=mdeq data=breast_cancer", (1.4, "import torch")),
    "skipped": (f"{SHINE_RUN} {DONE}", (1.4, "import torch")),
    "first run, Gaussian data": (
        "before.py data=gaussian runtime.results=new",
        (1.4, "import torch"),
    ),
    "first run, scikit-learn's data": ("before.py runtime.results=new", (1.4, "import torch")),
}
METHODS = ("shine", "cg", "jf", "grid")


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def python(command: str, folder: Path) -> None:
    path = os.pathsep.join([str(CONFIG_DIR.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    line = [sys.executable, *shlex.split(command)]
    subprocess.run(line, cwd=folder, env=environment, capture_output=True, check=False)


def processes(folder: Path, repeats: int) -> None:
    (folder / "nothing.py").write_text(NOTHING)
    (folder / "before.py").write_text(BEFORE_ITS_WORK)
    python(f"{SHINE_RUN} {DONE}", folder)
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(repeats):
        for name, (command, _) in COMMANDS.items():
            times[name].append(seconds(lambda command=command: python(command, folder)))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, (_, bound) in COMMANDS.items():
        line = f"{name:<32}{medians[name]:6.2f} s"
        if bound is not None:
            most, of = bound
            line += f"{medians[name] / medians[of]:8.2f} times {of}, at most {most}"
        print(line)


def composed(method: str, seed: int) -> DictConfig:
    return compose("config", [f"method={method}", f"seed={seed}", DONE], return_hydra_config=True)


def sweep(folder: Path, n_runs: int) -> None:
    seeds, taken = range(n_runs // len(METHODS)), 0.0
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        for method in METHODS:
            for seed in seeds:
                start = time.perf_counter()
                config = composed(method, seed)
                taken += time.perf_counter() - start
                finish(folder / "results", config)
    command = f"{SHINE_RUN} -m method={','.join(METHODS)} 'seed=range({len(seeds)})' {DONE}"
    passed = seconds(lambda: python(command, folder))
    n = len(METHODS) * len(seeds)
    print(f"{f'composing {n} configurations':<32}{taken:6.2f} s")
    times = passed / taken
    print(f"{f'a finished sweep of {n}':<32}{passed:6.2f} s{times:8.2f} times that, at most 1.5")


def finish(results: Path, config: DictConfig) -> None:
    """Leave what a run that is done leaves."""
    composed = separated(config)
    identity = identify(composed.config, composed.choices)
    folder = results / identity.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(yaml.safe_dump(identity.config, sort_keys=False))
    (folder / INFO).write_text('{"status": "done", "data": {"digest": "", "files": {}}}')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--runs", type=int, default=0, help="of a finished sweep; 0: none")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.repeats:
            processes(Path(folder), arguments.repeats)
        if arguments.runs:
            sweep(Path(folder), arguments.runs)


if __name__ == "__main__":
    main()
