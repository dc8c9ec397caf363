"""Interrupts that wait, that are never lost, and that leave alone what is not ours."""

import signal
import threading

import pytest

from shine_exp.runs.signals import (
    ALWAYS,
    INTERRUPTS,
    continuations,
    deferred,
    ignore_interrupts,
    interruptible,
)

OTHERS = [number for number in INTERRUPTS if number not in ALWAYS]
by_name = {"ids": lambda number: number.name}


@pytest.fixture(autouse=True)
def _default_handlers():
    """As in a new process; what was there is put back afterwards."""
    watched = (*INTERRUPTS, signal.SIGCONT)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in watched}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def foreign():
    """A handler of somebody else, that remembers what it was called with."""

    class Handler:
        def __init__(self) -> None:
            self.received: list[int] = []

        def __call__(self, number, frame) -> None:
            self.received.append(number)

    return Handler()


@pytest.mark.parametrize("number", INTERRUPTS, **by_name)
def test_deferred_interrupt_waits_for_end_of_block(number: signal.Signals) -> None:
    done = []

    def block() -> None:
        with deferred() as waiting:
            assert not waiting
            signal.raise_signal(number)
            signal.raise_signal(number)
            done.append(list(waiting))
        done.append("never")

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == [[number, number]]
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", INTERRUPTS, **by_name)
def test_interruptible_ends_block_at_once(number: signal.Signals) -> None:
    done = []

    def block() -> None:
        with interruptible():
            signal.raise_signal(number)
            done.append("the rest")

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == []
    assert signal.getsignal(number) is before


def test_swallowed_interrupt_is_raised_at_end_of_block() -> None:
    done = []

    def block() -> None:
        with interruptible():
            try:
                signal.raise_signal(signal.SIGTERM)
            except KeyboardInterrupt:
                done.append("swallowed")
        done.append("never")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == ["swallowed"]


def test_block_without_interrupt_goes_on() -> None:
    with interruptible(), deferred() as waiting:
        pass
    assert waiting == []


def test_error_in_block_is_that_error_and_handlers_come_back() -> None:
    def block() -> None:
        with deferred():
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        block()
    assert all(signal.getsignal(number) is signal.SIG_DFL for number in OTHERS)


def test_interrupt_is_not_lost_to_an_error_of_the_block() -> None:
    def block() -> None:
        with deferred():
            signal.raise_signal(signal.SIGHUP)
            raise ZeroDivisionError

    with pytest.raises(KeyboardInterrupt) as raised:
        block()
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("number", INTERRUPTS, **by_name)
def test_deferred_within_interruptible_waits(number: signal.Signals) -> None:
    """As in a run, where the session is a block inside of the whole."""
    done = []

    def steps() -> None:
        with interruptible():
            with deferred():
                signal.raise_signal(number)
                done.append("this step")
            done.append("the next step")

    with pytest.raises(KeyboardInterrupt):
        steps()
    assert done == ["this step"]


@pytest.mark.parametrize("context", [interruptible, deferred])
@pytest.mark.parametrize("number", INTERRUPTS, **by_name)
def test_ignored_signal_stays_ignored(number: signal.Signals, context) -> None:
    signal.signal(number, signal.SIG_IGN)
    with context():
        signal.raise_signal(number)
        assert signal.getsignal(number) is signal.SIG_IGN
    assert signal.getsignal(number) is signal.SIG_IGN


@pytest.mark.parametrize("number", OTHERS, **by_name)
def test_foreign_handler_stays(number: signal.Signals, foreign) -> None:
    """As submitit's of SIGUSR2, which requeues the job."""
    signal.signal(number, foreign)
    with interruptible(), deferred() as waiting:
        signal.raise_signal(number)
    assert (foreign.received, waiting) == ([number], [])


@pytest.mark.parametrize("number", ALWAYS, **by_name)
def test_interrupt_is_handed_on_to_foreign_handler_after_the_block(
    number: signal.Signals, foreign
) -> None:
    """As to submitit's of SIGTERM, which only logs it."""
    signal.signal(number, foreign)
    seen = []

    def block() -> None:
        with deferred():
            signal.raise_signal(number)
            seen.extend(foreign.received)

    with pytest.raises(KeyboardInterrupt):
        block()
    assert (seen, foreign.received) == ([], [number])


@pytest.mark.parametrize("context", [interruptible, deferred, continuations])
def test_thread_that_is_not_the_main_one_sets_no_handler(context) -> None:
    failures = []

    def work() -> None:
        try:
            with context():
                pass
        except ValueError as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []


def test_continuations_are_counted_and_handed_on(foreign) -> None:
    signal.signal(signal.SIGCONT, foreign)
    with continuations() as continued:
        signal.raise_signal(signal.SIGCONT)
        signal.raise_signal(signal.SIGCONT)
    assert len(continued) == 2
    assert len(foreign.received) == 2
    assert signal.getsignal(signal.SIGCONT) is foreign


def test_interrupts_are_ignored_for_what_is_left_of_a_process() -> None:
    ignore_interrupts()
    for number in ALWAYS:
        signal.raise_signal(number)
    assert all(signal.getsignal(number) is signal.SIG_IGN for number in ALWAYS)
