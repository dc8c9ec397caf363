"""The state of runs in words, as `shine-status` and the end of a sweep tell it."""

from collections import Counter
from collections.abc import Iterable

from shine_exp.runs.state import RunState, State


def counted(states: Iterable[State]) -> str:
    """How many runs there are, and how many in each state."""
    counts = Counter(states)
    each = ", ".join(f"{counts[state]} {state}" for state in State if counts[state])
    n = counts.total()
    return f"{n} run{'s' * (n != 1)}: {each}" if n else "no runs"


def told(run: RunState) -> str:
    """What is known of a run, in a line."""
    ended_badly = run.state in (State.FAILED, State.DEAD, State.MISSING, State.REFUSED)
    parts = [
        f"step {run.step} of {run.n_steps or '?'}" if run.step is not None else "",
        run.place if run.state in (State.RUNNING, State.DEAD) else "",
        f"last row {duration(run.age)} ago" if run.age is not None else "",
        f"{duration(run.left)} left" if run.left is not None else "",
        run.reason or "",
        f"log {run.log}" if run.log and ended_badly else "",
    ]
    return "; ".join(filter(None, parts))


def duration(seconds: float) -> str:
    """As 12 s, 3 min or 5.2 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
