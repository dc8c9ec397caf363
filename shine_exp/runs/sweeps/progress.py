"""How far a sweep has come: a live line on a terminal, a line for each run elsewhere."""

from collections import Counter
from types import TracebackType

from tqdm import tqdm

from shine_exp.runs.progress import tell
from shine_exp.runs.state import RunState, State
from shine_exp.runs.telling import told


class SweepProgress:
    """Of a sweep of `n` runs."""

    def __init__(self, n: int) -> None:
        where_a_terminal = None
        self.n = n
        self.states: Counter[State] = Counter()
        self.bar = tqdm(total=n, desc="sweep", unit="run", disable=where_a_terminal, leave=False)

    def __enter__(self) -> "SweepProgress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.close()

    def ended(self, run: RunState, name: str) -> None:
        """One more process is over. Whether its run is, `run` says."""
        self.states[run.state] += 1
        if self.bar.disable or not run.state.is_end:
            place = f"{self.states.total()} of {self.n}"
            tell([f"{place}: {name}: {run.state}; {told(run)}".rstrip("; ")])
        self.bar.update()
        self.bar.set_postfix_str(", ".join(f"{n} {state}" for state, n in self.states.items()))
