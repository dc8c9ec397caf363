"""A loop's state from a checkpoint, if what that holds fits the run."""

import csv
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shine_exp import durable
from shine_exp.errors import UserError, one_line
from shine_exp.loop import LoopState, OuterLoop
from shine_exp.processes import processes
from shine_exp.runs import checkpoint
from shine_exp.runs.checkpoint import Checkpoint, unusable
from shine_exp.runs.identity import RunIdentity
from shine_exp.runs.machine import is_out_of_memory
from shine_exp.runs.run import CHECKPOINT, TRACE


def resume(
    loop: OuterLoop[Any, Any], problem: Any, identity: RunIdentity, folder: Path, device: str
) -> tuple[LoopState, Checkpoint] | None:
    """State and checkpoint to go on from, if there is one; in all processes of the run.

    Raises `UserError` for a checkpoint that is damaged, or not of this run, or that is not there
    for all of them.
    """
    there = processes().agreed(lambda: _resume(loop, problem, identity, folder, device))
    steps = processes().gathered(None if there is None else there[0].step)
    if len(set(steps)) > 1:
        raise UserError(
            f"{folder / CHECKPOINT}: this run's processes do not see the same; take a folder on a "
            "disk that they share, runtime.results=FOLDER"
        )
    return there


def _resume(
    loop: OuterLoop[Any, Any], problem: Any, identity: RunIdentity, folder: Path, device: str
) -> tuple[LoopState, Checkpoint] | None:
    path = folder / CHECKPOINT
    saved = checkpoint.load(folder, device)
    if saved is None:
        return None
    refuse_other_configuration(folder, identity, saved)
    try:
        state = loop.load_state_dict(problem, saved.state)
        misfit = _misfit(loop, problem, identity.seed, state, saved)
    except Exception as error:  # anything, of what somebody else may have written
        if is_out_of_memory(error):
            raise
        raise unusable(path, one_line(error)) from error
    if misfit:
        raise unusable(path, misfit)
    return state, saved


def refuse_other_configuration(folder: Path, identity: RunIdentity, saved: Checkpoint) -> None:
    """Raises `UserError` where a checkpoint is of another run."""
    if not identity.is_of(saved.config):
        raise unusable(folder / CHECKPOINT, "its configuration is another one")


def resumed(folder: Path, state: LoopState, saved: Checkpoint) -> list[str]:
    """What there is to tell of a resumed run, a line each."""
    lines = [f"{folder}: resumed after step {state.step}"]
    if not _begins_with(folder / TRACE, saved.trace.encode()):
        lines.append(
            f"{folder}: {TRACE} lacked rows, or had others; written anew from {CHECKPOINT}"
        )
    return lines


def _misfit(
    loop: OuterLoop[Any, Any], problem: Any, seed: int, state: LoopState, saved: Checkpoint
) -> str | None:
    """What keeps the loop from going on from this state and trace."""
    length = loop.length(problem)
    if not 0 <= state.step <= length:
        return f"its step is {state.step}, and the run has {length}"
    if not (math.isfinite(saved.elapsed) and saved.elapsed >= 0):
        return f"its time is {saved.elapsed}"
    header, *rows = csv.reader(saved.trace.splitlines() or [""])
    if header != ["step", "time", *loop.columns(problem)]:
        return "its trace has other columns"
    if any(not 0 <= int(row[0]) <= state.step for row in rows):
        return f"its trace has steps beyond {state.step}"
    # Of α and θ; a network checks its own weights when it loads them.
    if found := _shapes(state):
        expected = _shapes(loop.init(problem, seed))
        if wrong := [name for name in expected if found.get(name) != expected[name]]:
            return f"its {', '.join(wrong)} has another shape than the problem needs"
    return None


def _shapes(state: LoopState) -> dict[str, torch.Size]:
    saved = state.state_dict()
    parts = {name: saved.get(name) for name in ("alpha", "theta")}
    return {name: part.shape for name, part in parts.items() if isinstance(part, Tensor)}


def _begins_with(path: Path, content: bytes) -> bool:
    try:
        return durable.read(path).startswith(content)
    except OSError:
        return False
