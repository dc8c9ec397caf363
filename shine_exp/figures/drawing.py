"""What a figure's module returns."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawing:
    """A figure under the name of its files, None where it has no runs; each of `notes` says what is missing."""

    name: str
    figure: "Figure | None"
    notes: tuple[str, ...] = ()


def how_to_make(name: str) -> str:
    return f"make them with: shine-run -m experiment={name.replace('-', '_')}"
