"""What every figure and table of `shine-plot` is: a class with a name, a claim and runs to read."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shine_exp.figures.drawing import Drawing
from shine_exp.runs.run import Run


@dataclass(frozen=True)
class Options:
    """What the command line says about all plots."""

    x: str  # what a curve is drawn against, one of `drawing.COSTS`
    published: Path  # a CSV of the paper's numbers for fig3, which need not be there


class Plot(ABC):
    """A figure or a table.

    A concrete class in `figures/plots/` is found by the catalogue; nothing else registers it.
    """

    name: str  # on the command line, and of the files that it becomes
    claim: str  # what it shows, in one line of `shine-plot --help`

    @property
    def experiment(self) -> str | None:
        """The sweep of its runs, by its name in conf/experiment; a table has none of its own."""
        return self.name.replace("-", "_") if self.name.startswith("fig") else None

    @classmethod
    def all_for(cls, runs: Sequence[Run]) -> "list[Plot]":
        """The plots of this class that these runs call for, as a rule one."""
        return [cls()]

    @abstractmethod
    def reads(self, run: Run) -> bool:
        """Whether `draw` is to be given this run.

        By its run.json alone: the trace is read later.
        """

    @abstractmethod
    def draw(self, runs: Sequence[Run], options: Options) -> Drawing:
        """A figure or a table of these runs, or a note that says which runs are missing.

        Raises `UserError` where something that it reads beside the runs is damaged.
        """
