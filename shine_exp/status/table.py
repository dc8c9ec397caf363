"""The live table of `shine-status --watch`."""

from rich.console import Group
from rich.table import Table
from rich.text import Text

from shine_exp.runs.state import State
from shine_exp.runs.telling import counted, told
from shine_exp.status.report import SHOWN, Report, name_of, summaries

STYLES = {
    State.RUNNING: "green",
    State.INTERRUPTED: "yellow",
    State.UNSOLVED: "yellow",
    State.DIVERGED: "red",
    State.DEAD: "red",
    State.FAILED: "red",
    State.DAMAGED: "red",
}


def table(report: Report) -> Group:
    """The runs that are not simply done, the running ones first; then sweeps and figures."""
    order = sorted(SHOWN, key=lambda state: state is not State.RUNNING)
    rows = Table("run", "state", "", box=None, pad_edge=False)
    for state in order:
        for run in report.runs:
            if run.state is state:
                style = STYLES[state]
                rows.add_row(Text(name_of(report, run)), Text(state, style), Text(told(run)))
    below = "\n".join(summaries([*report.sweeps, *report.figures]))
    title = Text(f"{report.root}: {counted(run.state for run in report.runs)}", "bold")
    return Group(title, Text(), rows, Text(), Text(below))
