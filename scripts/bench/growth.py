"""Time per accepted L-BFGS step and peak memory as nnz, n, p and m double, one at a time.

    python scripts/bench/growth.py --out results/growth    all sizes, to 10⁸ non-zeros
    python scripts/bench/growth.py --largest 24            to 2.5·10⁷
    python scripts/bench/growth.py --side 4096             small matrices: takes a minute

The problem is logistic regression on made text X (n, p) with nnz non-zeros, m the memory of L-BFGS.
First nnz doubles, from --smallest to --largest in a row, at n = p = --side. Then n, p and m are
halved and doubled, from a matrix that lies in the middle of that range.

Each size has a process of its own, with one thread, which does what a run does: it makes data,
splits them (90 % of the rows are for training), makes the problem, and steps. The table has

- step: CPU time of a step with a full memory, median of --repeats; and the peak of the resident
  set, of which Python and its libraries have some 0.3 GiB. In brackets: the factor to the line
  above.
- passes: bytes of values and indices that w = Xᵀz and X w on the training rows must read, per
  second of CPU time; and their share of what a large copy reads and writes in the same process.

--out DIR writes growth.csv, in seconds and bytes, and growth.pdf and growth.png.
"""

import argparse
import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from linear_measures import (
    bytes_of_passes,
    copy_bandwidth,
    full_memory,
    seconds_per_passes,
    seconds_per_step,
)
from scipy.sparse import csr_matrix

from shine_exp.bilevel.problems.linear.logistic import LogisticLoss
from shine_exp.bilevel.problems.linear.merged_columns import merged_columns
from shine_exp.bilevel.problems.linear.model import LinearModel
from shine_exp.data.dataset import Dataset
from shine_exp.data.splits import split
from shine_exp.figures.axes import house_style, legend_for_all, new_figure, plain_log, save
from shine_exp.figures.looks import MARKERS, PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SERIES = ("nnz", "n", "p", "m")  # what doubles
ROWS_AT_ONCE = 1 << 14  # that are drawn together
Row = Mapping[str, Any]  # of the table: a size, and what it took


@dataclass(frozen=True)
class Size:
    """Rows n, columns p, their non-zeros, and the memory m of L-BFGS."""

    n: int
    p: int
    nnz: int
    m: int


def made_text(size: Size) -> Dataset:
    """X (n, p), CSR, with nnz/n entries U(½, 1) in every row, and labels by a random plane.

    Half of the rows lie on each side of it. The columns are cut into nnz/n strata, which grow
    geometrically, and a row has one entry in each: the column of rank k has about 1/k of the
    entries of the first (Zipf's law). Ranks are scattered over the columns. All is written to where
    it stays: `data.sets.synthetic` needs several times the memory of what it makes.
    """
    rng = np.random.default_rng(0)
    per_row = size.nnz // size.n
    geometric = np.geomspace(1, size.p + 1, per_row + 1).round().astype(int) - 1
    edges = np.maximum(geometric, np.arange(per_row + 1))  # each stratum has a column at least
    column_of_rank = rng.permutation(size.p).astype(np.int32)
    indices = np.empty((size.n, per_row), dtype=np.int32)
    for begin in range(0, size.n, ROWS_AT_ONCE):
        rows = indices[begin : begin + ROWS_AT_ONCE]
        rows[:] = column_of_rank[rng.integers(edges[:-1], edges[1:], size=rows.shape)]
        rows.sort(axis=1)
    beginnings = np.arange(0, size.nnz + 1, per_row, dtype=np.int32)
    values = rng.uniform(0.5, 1.0, size.nnz)  # `column_scales` leaves these be
    x = csr_matrix((values, indices.ravel(), beginnings), (size.n, size.p))
    margins = x @ rng.standard_normal(size.p)
    labels = np.where(margins < np.median(margins), -1.0, 1.0)
    return Dataset(x, labels, "made text", "none")


def peak_bytes() -> float:
    """The largest resident set of this process so far; NaN where the system does not say."""
    try:
        # Not `resource.getrusage`, whose peak begins at the parent's.
        status = Path("/proc/self/status").read_text()
    except OSError:
        return float("nan")
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return 1024.0 * int(kilobytes)


def measured(size: Size, repeats: int) -> Row:
    """What this process takes for a size."""
    torch.set_num_threads(1)
    data = made_text(size)
    splits = split(data, seed=0)
    problem = LinearModel(LogisticLoss(), splits)
    del data  # as a run does, once it has its problem
    step = seconds_per_step(problem, full_memory(problem, size.m), size.m, repeats)
    peak = peak_bytes()
    (train, _), (outer, _), writing = splits.train, splits.outer, problem.writing
    del problem  # what follows makes the matrix anew
    x = train if writing == "primal" else merged_columns([train, outer], np.ones(size.p))
    return {
        **asdict(size),
        "coordinates": writing,
        "step_seconds": step,
        "peak_bytes": peak,
        "passes_bytes_per_second": bytes_of_passes(x) / seconds_per_passes(x, repeats),
        "copy_bytes_per_second": copy_bandwidth(repeats),
    }


def sizes(side: int, smallest: int, largest: int, memory: int) -> Iterator[tuple[str, Size]]:
    """Every size, after the name of what doubles."""
    per_row = [smallest]
    while 2 * per_row[-1] <= largest:
        per_row.append(2 * per_row[-1])
    for entries in per_row:
        yield "nnz", Size(side, side, side * entries, memory)
    middle = Size(side, side, side * per_row[len(per_row) // 2], memory)
    for name in SERIES[1:]:
        value = getattr(middle, name)
        for changed in (value // 2, value, 2 * value):
            yield name, replace(middle, **{name: changed})


def in_fresh_processes(todo: Iterable[Size], repeats: int) -> Iterator[Row]:
    """What each of the sizes takes, in a process that did nothing before."""
    context = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        yield from pool.map(partial(measured, repeats=repeats), todo)


def print_row(row: Row, above: Row | None) -> None:
    """A line of the table, with its factors to the line above, if that is of the same series."""
    step, peak = (
        f"({row[key] / above[key]:.2f})" if above else "" for key in ("step_seconds", "peak_bytes")
    )
    passes, copy = row["passes_bytes_per_second"], row["copy_bytes_per_second"]
    print(
        f"{row['doubles']:8}{row['n']:>9}{row['p']:>9}{row['nnz']:>11}{row['m']:>5}"
        f"  {row['coordinates']:11}{1e3 * row['step_seconds']:>9.1f}{step:>7}"
        f"{row['peak_bytes'] / 2**30:>11.2f}{peak:>7}{1e-9 * passes:>14.1f}{passes / copy:>7.0%}",
        flush=True,
    )


def drawn(rows: Sequence[Row]) -> "Figure":
    """Step and peak by what doubles, in multiples of its smallest value, log–log."""
    figure, (panels,) = new_figure(1, 2)
    _draw(panels[0], rows, "step_seconds", 1.0)
    _draw(panels[1], rows, "peak_bytes", 2.0**30)
    panels[0].set_ylabel("CPU time per step, s")
    panels[1].set_ylabel("peak memory, GiB")
    legend_for_all(figure, "what doubles")
    return figure


def _draw(ax: "Axes", rows: Sequence[Row], key: str, unit: float) -> None:
    for name, color, marker in zip(SERIES, PALETTE, MARKERS, strict=False):
        series = [row for row in rows if row["doubles"] == name]
        multiples = [row[name] / series[0][name] for row in series]
        values = [row[key] / unit for row in series]
        ax.plot(multiples, values, color=color, marker=marker, label=name)
        if name == "nnz":
            slope = [values[-1] * multiple / multiples[-1] for multiple in multiples[-3:]]
            ax.plot(multiples[-3:], slope, ":", color="0.5", label="proportional")
    ax.set(xscale="log", yscale="log", xlabel="multiple of the smallest")
    plain_log(ax.xaxis)
    plain_log(ax.yaxis)


def write(rows: Sequence[Row], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "growth.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with house_style():
        save(drawn(rows), folder, "growth")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=1 << 20, help="n and p (default: 2²⁰)")
    parser.add_argument("--smallest", type=int, default=3, help="non-zeros a row (default: 3)")
    parser.add_argument("--largest", type=int, default=96, help="non-zeros a row (default: 96)")
    parser.add_argument("--memory", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="a folder for growth.csv, .pdf and .png")
    options = parser.parse_args()
    if options.largest < 2 * options.smallest:
        parser.error("--largest must be at least twice --smallest")

    todo = list(sizes(options.side, options.smallest, options.largest, options.memory))
    taken: dict[Size, Row] = {}
    answers = in_fresh_processes(dict.fromkeys(size for _, size in todo), options.repeats)
    rows: list[Row] = []
    print(
        f"{'doubles':8}{'n':>9}{'p':>9}{'nnz':>11}{'m':>5}  {'coordinates':11}"
        f"{'step, ms':>9}{'peak, GiB':>18}{'passes, GB/s':>21}{'share':>7}"
    )
    for name, size in todo:
        if size not in taken:
            taken[size] = next(answers)
        above = rows[-1] if rows and rows[-1]["doubles"] == name else None
        rows.append({"doubles": name, **taken[size]})
        print_row(rows[-1], above)
    if options.out is not None:
        write(rows, options.out)


if __name__ == "__main__":
    main()
