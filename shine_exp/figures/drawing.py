"""What a figure's module returns."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Table:
    """A table to read, its header first, with a `note` below it; and `data`, the same as numbers."""

    lines: tuple[tuple[str, ...], ...]
    note: str
    data: "pd.DataFrame"


@dataclass(frozen=True)
class Drawing:
    """A figure, or a table, under the name of its files, neither without runs; `notes` say what is missing."""

    name: str
    figure: "Figure | None"
    notes: tuple[str, ...] = ()
    table: Table | None = None


def how_to_make(name: str) -> str:
    return f"make them with: shine-run -m experiment={name.replace('-', '_')}"
