"""The state of runs in words."""

from shine_exp.runs.state import State
from shine_exp.runs.telling import counted, duration


def test_durations() -> None:
    assert [duration(s) for s in (3.2, 99.6, 150, 20_000)] == ["3 s", "100 s", "2 min", "5.6 h"]


def test_counts() -> None:
    assert counted([]) == "no runs"
    assert counted([State.FAILED, State.DONE, State.DONE]) == "3 runs: 2 done, 1 failed"
