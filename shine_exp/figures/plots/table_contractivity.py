"""The table of whether the cell of a trained network is a contraction at its equilibrium."""

from collections.abc import Sequence

import pandas as pd

from shine_exp.figures.drawing import Drawing, Table, how_to_make
from shine_exp.figures.kinds import is_training
from shine_exp.figures.networks import by_network, measured_by_any, outcomes
from shine_exp.figures.plot import Options, Plot
from shine_exp.figures.summaries import (
    mean_and_deviation,
    mean_columns,
    median_columns,
    median_range_or_single,
)
from shine_exp.runs.run import Run

RADIUS = {"spectral_radius": "spectral radius"}
ACCURACY = {"accuracy": "top-1 (%)"}
RESIDUALS = {
    "forward_residual": "forward residual",
    "backward_residual": "backward residual",
}
NOTE = (
    "After the last epoch of runs that are done: median [lowest, highest] over seeds of ρ(∂f/∂z) "
    "at z* by the power method (for each the median of a batch of test images) and of residuals; "
    "mean ± std (n − 1) of top-1."
)


class ContractivityTable(Plot):
    """A row for each network and method with runs that are done and measured the radius."""

    name = "table-contractivity"
    claim = "spectral radius of trained networks"

    def reads(self, run: Run) -> bool:
        return is_training(run)

    def draw(self, runs: Sequence[Run], options: Options) -> Drawing:
        training = list(filter(is_training, runs))
        rows = []
        for network in by_network(training):
            for label, members in network.runs.items():
                ends = outcomes(members).dropna(subset="spectral_radius")
                if len(ends):
                    rows.append((network.title, label, ends))
        if not rows:
            missing = f"{self.name}: no finished runs with a spectral radius"
            return Drawing(self.name, None, (f"{missing}; {how_to_make('fig3')}",))
        accuracy = measured_by_any(training, ACCURACY)
        residuals = measured_by_any(training, RESIDUALS)
        shown = {**RADIUS, **accuracy, **residuals}
        lines = [("network", "method", "seeds", *shown.values())]
        numbers = []
        for title, label, ends in rows:
            cells = [
                (mean_and_deviation if name in accuracy else median_range_or_single)(ends[name])
                for name in shown
            ]
            lines.append((title, label, str(len(ends)), *cells))
            row = {"network": title, "method": label, "seeds": len(ends)}
            medians = median_columns(ends, [*RADIUS, *residuals])
            numbers.append(row | mean_columns(ends, accuracy) | medians)
        return Drawing(self.name, None, table=Table(tuple(lines), NOTE, pd.DataFrame(numbers)))
