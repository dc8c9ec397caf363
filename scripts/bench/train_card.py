"""Trainings on an accelerator that is lent for minutes, by any number of calls.

    python scripts/bench/train_card.py card --minutes 12
    python scripts/bench/train_card.py card data=image_folder data.path=cifar10.tar.xz \
        --minutes 12 --methods shine jf --seeds 0 1

Trains `experiment=tiny_short`, or the --recipe, with each method, all of them of one seed before
the next seed. Runs lie in the folder as `shine-run` has them: what an earlier call has left there
is gone on with, to the same numbers where the device is deterministic: the folder is all that has
to be kept from call to call. Once the minutes are
over the run at work is interrupted with a checkpoint, of TINY below 8 MiB: leave a minute for its
last evaluation and for copies. The exit code is 130 then, and 0 when all runs have ended.

`shine-plot card` makes their table.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from shine_exp.errors import UserError
from shine_exp.runs.api import run
from shine_exp.runs.run import Run
from shine_exp.runs.state import find_states

LEAST = 5.0  # seconds: with fewer left no run is begun


def runs_of(options: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """The overrides of each run."""
    for seed in options.seeds:
        for method in options.methods:
            yield (
                f"experiment={options.recipe}",
                f"method={method}",
                f"seed={seed}",
                f"runtime.device={options.device}",
                f"runtime.results={options.folder}",
                *options.overrides,
            )


def train(options: argparse.Namespace) -> int:
    """Make the runs as far as the minutes go, and give the exit code."""
    ends = time.monotonic() + 60 * options.minutes
    for overrides in runs_of(options):
        left = ends - time.monotonic()
        if left < LEAST:
            return 130
        try:
            made = run(*overrides, f"runtime.max_minutes={left / 60:.3f}", verbose=True)
        except KeyboardInterrupt:
            return 130
        print(summary(made), flush=True)
    return 0


def summary(made: Run) -> str:
    last = made.trace.iloc[-1] if len(made.trace) else {}
    numbers = [
        f"{name} {last[name]:.4g}"
        for name in ("epoch", "accuracy", "test_loss", "spectral_radius", "time")
        if name in last
    ]
    return f"{made.label}, seed {made.info['seed']}: {', '.join([made.status, *numbers])}"


def standings(folder: Path) -> list[str]:
    """A line for each run in the folder."""
    return [
        f"{one.folder.relative_to(folder)}: {one.state}, step {one.step} of {one.n_steps}"
        for one in find_states(folder)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of the runs, made or gone on with")
    parser.add_argument("overrides", nargs="*", help="as shine-run takes them")
    parser.add_argument("--minutes", type=float, required=True, help="until no step is begun")
    parser.add_argument("--methods", nargs="+", default=["shine", "jf", "full"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--recipe", default="tiny_short", help="an experiment (tiny_short)")
    parser.add_argument("--device", default="cuda", help="PyTorch's name of it (cuda)")
    options = parser.parse_intermixed_args(arguments)
    try:
        code = train(options)
    except UserError as error:
        print(f"train_card.py: {error}", file=sys.stderr)
        return 2
    print(*standings(options.folder), sep="\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
