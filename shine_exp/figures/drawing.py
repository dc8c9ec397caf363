"""What a plot returns, a figure or a table, and the files that it becomes."""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shine_exp import durable

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

COSTS = ("time", "products", "steps")  # what a curve can be drawn against
WIDEST = 100  # characters of a cell in the terminal
LONGEST_NAME = 200  # bytes; file systems take 255, and the temporary name is longer


@dataclass(frozen=True)
class Table:
    """A table to read, its header first, with a `note` below it.

    `data` has the same as numbers.
    """

    lines: tuple[tuple[str, ...], ...]
    note: str
    data: "pd.DataFrame"

    def aligned(self) -> str:
        """Aligned columns for the terminal; a cell that is too long for one is cut."""
        lines = [
            [cell if len(cell) <= WIDEST else cell[: WIDEST - 1] + "…" for cell in line]
            for line in self.lines
        ]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)

    def markdown(self) -> str:
        """The lines as a Markdown table, and the note below it."""
        return "\n".join([markdown_table(self.lines), "", self.note, ""])

    def save(self, folder: Path, name: str) -> list[Path]:
        """Write the numbers as name.csv and the table as name.md."""
        csv = self.data.to_csv(index=False, float_format="%.6g", lineterminator="\n")
        return [
            replace_file(folder, f"{name}.csv", csv.encode()),
            replace_file(folder, f"{name}.md", self.markdown().encode()),
        ]


@dataclass(frozen=True)
class Drawing:
    """A figure, or a table, under the name of its files; neither without runs.

    `notes` say what is missing.
    """

    name: str
    figure: "Figure | None"
    notes: tuple[str, ...] = ()
    table: Table | None = None

    @property
    def lacks_its_runs(self) -> bool:
        """Whether it is neither, and all that there is to say is how to make its runs."""
        nothing = self.figure is None and self.table is None
        return nothing and bool(self.notes) and all(MAKE in note for note in self.notes)


MAKE = "make them with: "


def how_to_make(name: str) -> str:
    """The command that makes the runs of a figure."""
    return f"{MAKE}shine-run -m experiment={name.replace('-', '_')}"


def replace_file(folder: Path, name: str, content: bytes) -> Path:
    """Write a file in one step: who reads or interrupts finds the old or the new one whole."""
    path = folder / _file_name(name)
    durable.write(path, content)
    return path


def _file_name(name: str) -> str:
    """A name that a folder takes: a place may be called anything."""
    name = name.replace("%", "%25").replace("/", "%2F")
    if len(name.encode()) <= LONGEST_NAME:
        return name
    stem, _, suffix = name.rpartition(".")
    short = stem.encode()[: LONGEST_NAME - 20].decode(errors="ignore")
    return f"{short}-{zlib.crc32(stem.encode()):08x}.{suffix}"


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """Cells as a Markdown table, the header first."""
    header, *rows = ("| " + " | ".join(map(_markdown, line)) + " |" for line in lines)
    return "\n".join([header, "|" + " --- |" * len(lines[0]), *rows])


def _markdown(cell: str) -> str:
    """A cell as it is: no character is a mark."""
    return re.sub(r"([\\|`*<$~]|(?<!\w)_|_(?!\w))", r"\\\1", cell)
