"""What the tests of training share: an interrupt in the middle of a step."""

import signal
from collections.abc import Callable
from typing import Any

import pytest

from shine_exp.training import step as training_step


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch, shine_run) -> Callable[..., Any]:
    """Run the command with Ctrl-C pressed in the middle of the step that follows this one."""

    def run(step: int, *arguments: str):
        def pressed(task, state, batch, inner=training_step.differentiate, **options):
            if state.step == step:
                signal.raise_signal(signal.SIGINT)
            return inner(task, state, batch, **options)

        with monkeypatch.context() as patch:
            patch.setattr(training_step, "differentiate", pressed)
            return shine_run(*arguments)

    return run
