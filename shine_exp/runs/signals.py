"""Signals that ask a process to end, or to go on; and a reader of our output who has gone."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Taken over from others too: what submitit installs for SIGTERM does no more than log it.
ALWAYS = (signal.SIGINT, signal.SIGTERM)
INTERRUPTS = (*ALWAYS, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
WAITS = b"\ninterrupted: the run ends after this step, and is saved (Ctrl-\\ does not wait)\n"


class _Receiver:
    """A handler: remembers each interrupt in `received`, and raises it while it is `at_once`."""

    def __init__(self, at_once: bool) -> None:
        self.at_once = at_once
        self.received: list[int] = []

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)
        if self.at_once:
            raise KeyboardInterrupt
        if sys.stderr.isatty():
            with contextlib.suppress(OSError):  # a terminal that has gone may be why we are to end
                os.write(2, WAITS)


@contextmanager
def interruptible() -> Iterator[None]:
    """Any of INTERRUPTS ends the block as Ctrl-C does: at once, by KeyboardInterrupt."""
    with _receiving(_Receiver(at_once=True)):
        yield


@contextmanager
def deferred() -> Iterator[list[int]]:
    """An interrupt waits for the end of the block, and is raised there as KeyboardInterrupt.

    The list tells the block of those that wait, so that it can end early. Nothing is raised within:
    code that is not Python may swallow it, and go on with half of its work done.
    """
    receiver = _Receiver(at_once=False)
    with _receiving(receiver):
        yield receiver.received


@contextmanager
def _receiving(receiver: _Receiver) -> Iterator[None]:
    """What was received is raised at the end of the block, though code within has swallowed it."""
    ours = [number for number in INTERRUPTS if _is_ours_to_take(number)]
    previous = {number: signal.signal(number, receiver) for number in ours}
    cause = None
    try:
        yield
    except Exception as error:
        if not receiver.received:
            raise
        cause = error
    finally:
        receiver.at_once = False  # from here on the end of the block is near
        for number, handler in previous.items():
            signal.signal(number, handler)
    for received in receiver.received:
        handler = previous[signal.Signals(received)]
        if callable(handler) and not isinstance(handler, _Receiver):
            handler(received, None)
    if receiver.received:
        raise KeyboardInterrupt from cause


def _is_ours_to_take(number: signal.Signals) -> bool:
    """Not what is ignored (nohup), nor somebody else's (submitit requeues a job by SIGUSR2)."""
    handler = signal.getsignal(number)
    if handler is signal.SIG_IGN or not _in_main_thread():
        return False
    return number in ALWAYS or handler is signal.SIG_DFL or isinstance(handler, _Receiver)


def _in_main_thread() -> bool:
    """Where alone Python sets handlers."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def continuations() -> Iterator[list[int]]:
    """A list that grows whenever the process goes on after a stop (Ctrl-Z, a suspended job)."""
    continued: list[int] = []
    if not _in_main_thread():
        yield continued
        return
    previous = signal.getsignal(signal.SIGCONT)

    def remember(number: int, frame: FrameType | None) -> None:
        continued.append(number)
        if callable(previous):
            previous(number, frame)

    signal.signal(signal.SIGCONT, remember)
    try:
        yield continued
    finally:
        signal.signal(signal.SIGCONT, previous)


def ignore_interrupts() -> None:
    """For what is left of this process."""
    for number in ALWAYS:
        signal.signal(number, signal.SIG_IGN)


def silence_stdout() -> None:
    """Let what is still to be printed go nowhere, after a BrokenPipeError.

    Python's last flush would raise it again.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
