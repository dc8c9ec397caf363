"""table-contractivity: whether the cell of a trained network is a contraction at its equilibrium."""

from collections.abc import Sequence

import pandas as pd

from shine_exp.figures.drawing import Drawing, Table, how_to_make
from shine_exp.figures.network_table import accuracy, numbers, spread
from shine_exp.figures.networks import by_network, is_training, outcomes
from shine_exp.runs.run import Run

NAME = "table-contractivity"
QUANTITIES = {
    "spectral_radius": "spectral radius",
    "forward_residual": "forward residual",
    "backward_residual": "backward residual",
}
HEADER = (
    "network",
    "method",
    "seeds",
    "spectral radius",
    "top-1 (%)",
    "forward residual",
    "backward residual",
)
NOTE = (
    "After the last epoch of runs that are done: median [lowest, highest] over seeds of ρ(∂f/∂z) at z* by the power "
    "method (for each the median of a batch of test images) and of residuals; mean ± std (n − 1) of top-1."
)


def draw_contractivity(runs: Sequence[Run]) -> Drawing:
    """A row for each network and method with runs that are done and measured the spectral radius."""
    rows = []
    for network in by_network(run for run in runs if is_training(run)):
        for label, members in network.runs.items():
            frame = outcomes(members).dropna(subset="spectral_radius")
            if len(frame):
                rows.append((network.title, label, frame))
    if not rows:
        return Drawing(
            NAME, None, (f"{NAME}: no finished runs with a spectral radius; {how_to_make('fig3')}",)
        )
    lines = (HEADER, *(_cells(*row) for row in rows))
    return Drawing(
        NAME, None, table=Table(lines, NOTE, pd.DataFrame([_numbers(*row) for row in rows]))
    )


def _cells(title: str, label: str, frame: pd.DataFrame) -> tuple[str, ...]:
    radius, *residuals = (spread(frame[name]) for name in QUANTITIES)
    return (title, label, str(len(frame)), radius, accuracy(frame["accuracy"]), *residuals)


def _numbers(title: str, label: str, frame: pd.DataFrame) -> dict[str, object]:
    top1 = {"accuracy_mean": frame["accuracy"].mean(), "accuracy_std": frame["accuracy"].std()}
    return {
        "network": title,
        "method": label,
        "seeds": len(frame),
        **top1,
        **numbers(frame, list(QUANTITIES)),
    }
