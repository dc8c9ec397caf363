"""Interrupts that wait."""

import signal

import pytest

from shine_exp.signals import deferred, terminated_as_interrupt


@pytest.fixture
def handlers():
    """Handlers of the test's own, put back afterwards."""
    received = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda number, frame: received.append(number)) for number in numbers}
    yield received
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_for_the_end_of_the_block(handlers: list[int], number: int) -> None:
    done = []

    def block() -> None:
        with deferred():
            signal.raise_signal(number)
            signal.raise_signal(number)
            done.append("the rest")
        done.append("never")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == ["the rest"]
    assert handlers == []
    signal.raise_signal(number)
    assert handlers == [number], "the handler is the old one again"


def test_a_block_without_an_interrupt_goes_on(handlers: list[int]) -> None:
    with deferred():
        pass
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)
    assert handlers == [signal.SIGTERM, signal.SIGINT]


def test_an_error_in_the_block_is_that_error_and_the_handlers_come_back(handlers: list[int]) -> None:
    def block() -> None:
        with deferred():
            signal.raise_signal(signal.SIGINT)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        block()
    signal.raise_signal(signal.SIGINT)
    assert handlers == [signal.SIGINT]


def test_termination_is_an_interrupt_and_the_handler_comes_back(handlers: list[int]) -> None:
    with pytest.raises(KeyboardInterrupt), terminated_as_interrupt():
        signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    assert handlers == [signal.SIGTERM]


def test_termination_during_a_step_waits_for_its_end() -> None:
    """As in a run, where a step is a block inside of the whole."""
    done = []

    def steps() -> None:
        with terminated_as_interrupt():
            with deferred():
                signal.raise_signal(signal.SIGTERM)
                done.append("this step")
            done.append("the next step")

    with pytest.raises(KeyboardInterrupt):
        steps()
    assert done == ["this step"]
