"""What the tests of training share: an interrupt in the middle of a step."""

import signal
from collections.abc import Callable
from typing import Any

import pytest

from shine_exp.training.images.image_classification import ImageClassification


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch, shine_run) -> Callable[..., Any]:
    """Run the command with Ctrl-C pressed in the middle of the step that follows this one."""

    def run(step: int, *arguments: str):
        def pressed(self, seed: int, now: int, inner=ImageClassification.batch):
            if now == step:
                signal.raise_signal(signal.SIGINT)
            return inner(self, seed, now)

        with monkeypatch.context() as patch:
            patch.setattr(ImageClassification, "batch", pressed)
            return shine_run(*arguments)

    return run
