"""What a figure's module returns."""

from dataclasses import dataclass
from pathlib import Path
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

    def aligned(self) -> str:
        """Aligned columns for the terminal."""
        widths = [max(map(len, column)) for column in zip(*self.lines, strict=True)]
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in self.lines)

    def markdown(self) -> str:
        """The lines as a Markdown table, and the note below it."""
        ruled = [self.lines[0], tuple("---" for _ in self.lines[0]), *self.lines[1:]]
        rows = ("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in ruled)
        return "\n".join([*rows, "", self.note, ""])

    def save(self, folder: Path, name: str) -> list[Path]:
        """Write the numbers as name.csv and the table as name.md."""
        csv, md = folder / f"{name}.csv", folder / f"{name}.md"
        self.data.to_csv(csv, index=False, float_format="%.6g", lineterminator="\n")
        md.write_text(self.markdown())
        return [csv, md]


@dataclass(frozen=True)
class Drawing:
    """A figure, or a table, under the name of its files, neither without runs; `notes` say what is missing."""

    name: str
    figure: "Figure | None"
    notes: tuple[str, ...] = ()
    table: Table | None = None


def how_to_make(name: str) -> str:
    return f"make them with: shine-run -m experiment={name.replace('-', '_')}"
