"""Labels of a logarithmic axis can be read, however short its range is."""

import numpy as np
import pytest

from shine_exp.figures.axes import house_style, log_x, new_figure

RANGES = [(0.3, 0.302), (0.3, 0.4), (0.05, 0.4), (2, 19), (9, 31), (12000, 45000), (1e-3, 1e3)]


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_tick_labels_of_log_x_do_not_overlap(low: float, high: float) -> None:
    with house_style():
        figure, [[ax]] = new_figure(1, 1)
        ax.plot([low, high], [1, 2])
        log_x(ax)
        figure.draw_without_rendering()
        left, right = ax.get_xlim()
        labels = [*ax.get_xticklabels(), *ax.get_xticklabels(minor=True)]
        boxes = [
            label.get_window_extent()
            for label in labels
            if label.get_text() and left <= label.get_position()[0] <= right
        ]
    starts = sorted(box.x0 for box in boxes)
    ends = sorted(box.x1 for box in boxes)
    assert len(boxes) >= 2
    assert np.all(np.array(starts[1:]) > np.array(ends[:-1]))
