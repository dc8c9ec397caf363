"""Figure 2, right, of Ramzi et al. 2022: a = H d against the exact b = (∇²_θθG)⁻¹ d."""

from collections.abc import Mapping, Sequence

import pandas as pd

from shine_exp.figures.axes import legends_below, new_figure, panel_title
from shine_exp.figures.clouds import draw_cloud, limit_quality, table_of_clouds
from shine_exp.figures.drawing import Drawing, how_to_make
from shine_exp.figures.grouping import by_setting, is_finished
from shine_exp.figures.kinds import INVERSION, is_study
from shine_exp.figures.looks import DIRECTIONS, styles
from shine_exp.figures.plot import Options, Plot
from shine_exp.runs.run import Run


class Fig2Right(Plot):
    """A row of panels for each data set, a column for each estimate."""

    name = "fig2-right"
    claim = "quality of the inverse estimates"

    def reads(self, run: Run) -> bool:
        return is_study(run, INVERSION)

    def draw(self, runs: Sequence[Run], options: Options) -> Drawing:
        groups = by_setting(run for run in runs if self.reads(run) and is_finished(run))
        if not groups:
            missing = f"{self.name}: no finished runs with outer={INVERSION}"
            return Drawing(self.name, None, (f"{missing}; {how_to_make(self.name)}",))
        frames = {title: pd.concat([run.trace for run in group]) for title, group in groups.items()}
        estimates = styles(_values(frames, "estimate"))
        directions = styles(_values(frames, "direction"), DIRECTIONS)
        figure, axes = new_figure(len(frames), len(estimates), width=4.8)
        for row, (title, frame) in zip(axes, frames.items(), strict=True):
            for ax, (estimate, style) in zip(row, estimates.items(), strict=True):
                for direction, look in directions.items():
                    cloud = _cloud(frame, estimate, direction)
                    if len(cloud):
                        draw_cloud(ax, cloud, look, f"{look.name} d")
                ax.set_title(panel_title(style.name, title))
                limit_quality(ax, frame)
            row[0].set_ylabel("‖a‖ / ‖b‖")
        legend = "a = H d, b = exact inverse · d;  large: median"
        legends_below(figure, legend, rows=len(frames))
        clouds = (
            (
                {"data": title, "estimate": style.name, "direction": look.name},
                _cloud(frame, estimate, direction),
            )
            for title, frame in frames.items()
            for estimate, style in estimates.items()
            for direction, look in directions.items()
        )
        table = table_of_clouds((names, cloud) for names, cloud in clouds if len(cloud))
        return Drawing(self.name, figure, table=table)


def _cloud(frame: pd.DataFrame, estimate: str, direction: str) -> pd.DataFrame:
    return frame[(frame["estimate"] == estimate) & (frame["direction"] == direction)]


def _values(frames: Mapping[str, pd.DataFrame], column: str) -> list[str]:
    return list(dict.fromkeys(value for frame in frames.values() for value in frame[column]))
