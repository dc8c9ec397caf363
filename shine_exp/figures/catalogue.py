"""What `shine-plot` can be asked for: the plots that lie in `figures/plots/`, found and chosen."""

import pkgutil
from collections.abc import Sequence
from importlib import import_module

from shine_exp.errors import UserError
from shine_exp.figures import plots
from shine_exp.figures.plot import Plot
from shine_exp.runs.run import Run

TABLE = "table"


def plot_classes() -> list[type[Plot]]:
    """Every class of a plot, by name."""
    found: list[type[Plot]] = []
    for file in pkgutil.iter_modules(plots.__path__, f"{plots.__name__}."):
        for each in vars(import_module(file.name)).values():
            is_plot = isinstance(each, type) and issubclass(each, Plot)
            if is_plot and each.__module__ == file.name:  # not a base class that it imports
                found.append(each)
    return sorted(found, key=lambda each: each.name)


def plots_for(runs: Sequence[Run]) -> list[Plot]:
    """Every plot that there is to ask for, with curves for each place that has runs."""
    return [plot for each in plot_classes() for plot in each.all_for(runs)]


def chosen(names: Sequence[str], runs: Sequence[Run]) -> list[Plot]:
    """The plots of these names, each its own or that of its class; all without names.

    The table of costs goes with every figure of the runs that it is about. Raises `UserError` for
    a name that there is not.
    """
    there = plots_for(runs)
    if not names:
        return there
    known = [*(each.name for each in plot_classes()), *(plot.name for plot in there)]
    if unknown := [name for name in names if name not in known]:
        raise UserError(
            f"no such figure: {unknown[0]}; there are: {', '.join(dict.fromkeys(known))}"
        )
    wanted = [plot for plot in there if plot.name in names or type(plot).name in names]
    shown = [run for run in runs if any(plot.reads(run) for plot in wanted)]
    return [
        plot
        for plot in there
        if plot in wanted or (plot.name == TABLE and any(map(plot.reads, shown)))
    ]


def listing() -> str:
    """A line for each plot: its name and its claim."""
    classes = plot_classes()
    width = max(len(each.name) for each in classes)
    return "\n".join(f"  {each.name:{width}}  {each.claim}" for each in classes)
