"""Figure E.2 of Ramzi et al. 2022: a = Hᵀd against b = J⁻ᵀd in a trained network."""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from shine_exp.figures.axes import legends_below, new_figure, panel_title
from shine_exp.figures.clouds import draw_cloud, limit_quality, table_of_clouds
from shine_exp.figures.drawing import Drawing, how_to_make
from shine_exp.figures.grouping import is_finished
from shine_exp.figures.kinds import NETWORK_INVERSION, is_study
from shine_exp.figures.looks import METHODS, Look, Style, styles
from shine_exp.figures.networks import by_network
from shine_exp.figures.plot import Options, Plot
from shine_exp.runs.run import Run

DIRECTION_TITLES = {"prescribed": "prescribed d, ∇L(z*)", "random": "random d"}
ESTIMATES = {
    "jf": METHODS["jf"],
    "shine": METHODS["shine"].called("SHINE, Broyden"),
    "adjoint_broyden": Look("SHINE, adjoint Broyden", "#D55E00", "^"),
    "opa": METHODS["opa"].called("SHINE-OPA, adjoint Broyden"),
}


class FigE2(Plot):
    """A row of panels for each trained network, a column for each direction; a point a sample."""

    name = "figE2"
    claim = "quality of the inverse estimates in a network"

    def reads(self, run: Run) -> bool:
        return is_study(run, NETWORK_INVERSION)

    def draw(self, runs: Sequence[Run], options: Options) -> Drawing:
        finished = (run for run in runs if self.reads(run) and is_finished(run) and len(run.trace))
        frames = {
            (network.title, label): pd.concat([run.trace for run in members])
            for network in by_network(finished)
            for label, members in network.runs.items()
        }
        if not frames:
            missing = f"{self.name}: no finished runs with outer={NETWORK_INVERSION}"
            return Drawing(self.name, None, (f"{missing}; {how_to_make(self.name)}",))
        figure, axes = new_figure(len(frames), len(DIRECTION_TITLES), width=6.2)
        for row, ((title, method), frame) in zip(axes, frames.items(), strict=True):
            trainer = styles([method])[method].name
            for ax, (direction, name) in zip(row, DIRECTION_TITLES.items(), strict=True):
                part = frame[frame["direction"] == direction]
                for estimate, style in _styles(part).items():
                    draw_cloud(ax, part[part["estimate"] == estimate], style, style.name)
                limit_quality(ax, frame)
                ax.set_title(panel_title(f"{name}; trained by {trainer}", title))
            row[0].set_ylabel("‖a‖ / ‖b‖")
        legend = "a = Hᵀd, b = J⁻ᵀd of each sample;  large: median"
        legends_below(figure, legend, rows=len(frames))
        return Drawing(self.name, figure, table=table_of_clouds(_clouds(frames)))


def _clouds(
    frames: Mapping[tuple[str, str], pd.DataFrame],
) -> Iterator[tuple[dict[str, str], pd.DataFrame]]:
    """The samples of each network, direction and estimate, under the names of all three."""
    for (title, _), frame in frames.items():
        for direction, part in frame.groupby("direction"):
            for estimate, style in _styles(part).items():
                names = {"network": title, "direction": str(direction), "estimate": style.name}
                yield names, part[part["estimate"] == estimate]


def _styles(part: pd.DataFrame) -> dict[str, Style]:
    return styles(list(dict.fromkeys(part["estimate"])), ESTIMATES)
