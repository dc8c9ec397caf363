"""How long the parts of a step take, measured without waiting for the device."""

import time

import torch


class Laps:
    """Milliseconds between marks: by the clock on a CPU, by events in a GPU's own stream."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[float | torch.cuda.Event] = []

    def mark(self) -> None:
        if self._device.type != "cuda":
            self._marks.append(1000 * time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        self._marks.append(event)

    def milliseconds(self) -> list[float]:
        """Between each mark and the next; to be asked once the device has passed the last."""
        return [_between(a, b) for a, b in zip(self._marks, self._marks[1:], strict=False)]


def _between(start: "float | torch.cuda.Event", end: "float | torch.cuda.Event") -> float:
    if isinstance(start, float) and isinstance(end, float):
        return end - start
    return float(start.elapsed_time(end))  # type: ignore[union-attr,arg-type]
