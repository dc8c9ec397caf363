"""The paper's figures, each by its name: nothing but `shine-run -m experiment=…` and `shine-plot`.

    scripts/reproduce.py fig2_left             the paper's protocol: hours
    scripts/reproduce.py fig1 figE2 --fast     minutes on two cores: fewer seeds, smaller sets
    scripts/reproduce.py --list                every figure, its commands, and how long they take

What is done already is skipped and what was interrupted goes on, so the same command can be given
again. The minutes are rough: what the runs in results/ took on one thread of machines more or less
busy; those of real_sim, of fig_groups with 100 groups, and of fig3's full_limited and refine_jf are
guesses. `--launcher joblib` or `submitit_slurm` runs a sweep in parallel.
"""

import argparse
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from shine_exp.runs.signals import silence_stdout


@dataclass(frozen=True)
class Sweep:
    """One `shine-run -m`, and the minutes that all its runs take on one thread."""

    overrides: str
    minutes: float


IMAGES = (
    "data=image_folder data.path={images} data.subset=5000 data.test_subset=1000 outer.epochs=4"
)
STEPS = (
    ("full_limited", "method.max_steps"),
    ("refine", "method.steps.max_steps"),
    ("refine_jf", "method.steps.max_steps"),
)
FULL = {
    "fig1": [Sweep("experiment=fig1 data=20news,real_sim", 60)],
    "figE1": [Sweep("experiment=figE1 data=20news,real_sim", 80)],
    "figNLS": [Sweep("experiment=figNLS", 13)],
    "fig2_left": [Sweep("experiment=fig2_left", 8)],
    "fig2_right": [Sweep("experiment=fig2_right", 1)],
    "fig_theorem": [Sweep("experiment=fig_theorem", 1)],
    "fig_groups": [
        Sweep("experiment=fig_groups", 100),
        Sweep(
            "data=20news method=shine,opa,cg problem.groups=1,10 "
            "problem.grouping=contiguous,frequency seed=range(3)",
            30,
        ),
        Sweep("data=20news method=grid,random problem.groups=1,10 seed=range(3)", 32),
    ],
    "fig_augment": [
        Sweep("experiment=fig_augment", 7),
        Sweep("problem=augment problem/model=mlp method=shine seed=range(5)", 10),
    ],
    "fig_architecture": [Sweep("experiment=fig_architecture", 20)],
    "fig_cleaning": [Sweep("experiment=fig_cleaning", 5)],
    "fig_softmax": [Sweep("experiment=fig_softmax", 25)],
    "fig_outer": [Sweep("experiment=fig_outer", 40)],
    "fig_sudoku": [
        Sweep("experiment=fig_sudoku", 80),
        Sweep("experiment=fig_sudoku method=refine,refine_jf method.steps.max_steps=3", 20),
        Sweep("experiment=fig_sudoku method=full_limited method.max_steps=10", 12),
        Sweep("experiment=fig_sudoku method=opa solver=adjoint_broyden", 25),
    ],
    "fig3": [
        Sweep(f"experiment=fig3 {IMAGES}", 90),
        *(
            Sweep(f"experiment=fig3 {IMAGES} method={method} {key}=1,2", 27)
            for method, key in STEPS
        ),
    ],
    "figE2": [Sweep(f"experiment=figE2 {IMAGES}", 30)],
}
FAST = {
    "fig1": [Sweep("experiment=fig1 data=20news seed=0", 3)],
    "figE1": [Sweep("experiment=figE1 data=20news seed=0", 4)],
    "figNLS": [Sweep("experiment=figNLS seed=0", 4)],
    "fig2_left": [Sweep("experiment=fig2_left seed=0", 2)],
    "fig2_right": [Sweep("experiment=fig2_right", 1)],
    "fig_theorem": [Sweep("experiment=fig_theorem seed=range(3)", 1)],
    "fig_groups": [
        Sweep("experiment=fig_groups data=breast_cancer problem.groups=1,5,30 seed=0", 4)
    ],
    "fig_augment": [Sweep("experiment=fig_augment seed=0", 2)],
    "fig_architecture": [Sweep("experiment=fig_architecture seed=0", 4)],
    "fig_cleaning": [Sweep("experiment=fig_cleaning seed=0", 1)],
    "fig_softmax": [Sweep("experiment=fig_softmax data=digits_classes seed=0", 1)],
    "fig_outer": [Sweep("experiment=fig_outer seed=0", 7)],
    "fig_sudoku": [Sweep("experiment=fig_sudoku problem/cell=injected seed=0", 8)],
    "fig3": [Sweep("experiment=fig3 seed=0", 8)],
    "figE2": [Sweep("experiment=figE2 seed=0", 2)],
}


def main() -> None:
    options = parsed()
    commands = []
    for name, sweeps in chosen(options).items():
        minutes = sum(sweep.minutes for sweep in sweeps)
        print(f"{name}: {minutes:g} min on one thread, less what is done already")
        for sweep in sweeps:
            overrides = overrides_of(sweep, options)
            commands.append([sys.executable, "-m", "shine_exp.runs.command", "-m", *overrides])
            print(f"  shine-run -m {shlex.join(overrides)}")
    if not options.list:
        run([*commands, [sys.executable, "-m", "shine_exp.figures.command", options.results]])


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"any of {', '.join(FULL)}")
    parser.add_argument("--fast", action="store_true", help="minutes on two cores")
    parser.add_argument(
        "--list", action="store_true", help="say what would be done, and do nothing"
    )
    parser.add_argument(
        "--results", default="results", help="where runs and figures go (default: results)"
    )
    parser.add_argument(
        "--images", default="data/cifar10-jpeg.tar.xz", help="CIFAR-10 as a folder or tar of images"
    )
    parser.add_argument(
        "--launcher",
        default="basic",
        help="Hydra's launcher (default: basic, one run after the other)",
    )
    return parser.parse_args()


def chosen(options: argparse.Namespace) -> dict[str, list[Sweep]]:
    """The sweeps of each figure that is asked for; of all, where they are to be listed."""
    sweeps = FAST if options.fast else FULL
    if unknown := [name for name in options.figures if name not in sweeps]:
        refuse(f"no such figure: {', '.join(unknown)}; there are: {', '.join(sweeps)}")
    names = options.figures or (sweeps if options.list else [])
    if not names:
        refuse(f"name one or more of: {', '.join(sweeps)}")
    needs_images = any("{images}" in sweep.overrides for name in names for sweep in sweeps[name])
    if needs_images and not (options.list or Path(options.images).exists()):
        refuse(
            f"{options.images}: no such folder or file; "
            "say where CIFAR-10's images are: --images PATH, or take --fast"
        )
    return {name: sweeps[name] for name in names}


def overrides_of(sweep: Sweep, options: argparse.Namespace) -> list[str]:
    is_plain = re.fullmatch(r"[\w./~-]+", options.images)
    images = options.images if is_plain else f"'{options.images}'"  # for Hydra
    overrides = [part.format(images=images) for part in sweep.overrides.split()]
    where = [f"runtime.results={options.results}", f"hydra/launcher={options.launcher}"]
    return [*overrides, *where]


def run(commands: list[list[str]]) -> None:
    """One after the other, whatever becomes of one; exits with the first code that is not 0."""
    codes = [subprocess.run(command, check=False).returncode for command in commands]
    sys.exit(next(filter(None, codes), 0))


def refuse(message: str) -> NoReturn:
    print(f"reproduce.py: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        silence_stdout()
