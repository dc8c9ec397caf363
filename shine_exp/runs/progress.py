"""How far a run has come: a live bar on a terminal, a line every so often elsewhere."""

import time
from collections.abc import Iterable, Iterator, Mapping

from tqdm import tqdm

EVERY = 30.0  # seconds between lines


class Progress:
    """Of a run that is called `name` and takes these steps; silent unless `verbose`."""

    def __init__(self, name: str, steps: range, verbose: bool) -> None:
        where_a_terminal = None
        disabled = where_a_terminal if verbose else True
        self.name = name
        self.steps = steps
        self.verbose = verbose
        self.bar = tqdm(steps, desc=name, disable=disabled, leave=False)
        self.told_at = time.monotonic()

    def __iter__(self) -> Iterator[int]:
        return iter(self.bar)

    def after(self, step: int, numbers: Mapping[str, str]) -> None:
        """One more step is done, with a few live numbers."""
        if not self.bar.disable:
            self.bar.set_postfix(numbers)
        elif self.verbose and time.monotonic() - self.told_at >= EVERY:
            self.told_at = time.monotonic()
            told = ", ".join(f"{key} {value}" for key, value in numbers.items())
            tell([f"{self.name}: step {step} of {self.steps.stop}, {told}"])


def tell(lines: Iterable[str]) -> None:
    """Print, around whatever bar is live."""
    for line in lines:
        tqdm.write(line)
