from pathlib import Path

import numpy as np
import pytest
from traces import curves_in, draw, figure_of

from shine_exp.figures.kinds import is_training
from shine_exp.figures.plots.curves import Curves

PLACE = "mdeq-digits_images"
CURVES = Curves(PLACE, "there", is_training)


def epochs(*values: tuple[float, float]) -> list[dict[str, float]]:
    return [{"test_loss": loss, "accuracy": accuracy} for loss, accuracy in values]


@pytest.mark.parametrize(
    ("x", "costs", "label"),
    [("time", [2, 4], "training time (s)"), ("steps", [10, 20], "training steps")],
)
def test_network_curves_of_loss_and_accuracy_against_cost(
    add_network, results: Path, x: str, costs: list[float], label: str
) -> None:
    for seed, (loss, accuracy) in enumerate([(0.5, 0.9), (0.3, 0.94), (0.4, 0.95)]):
        add_network("shine", seed, epochs((0.9, 0.5), (loss, accuracy)))
    add_network("jf", 0, epochs((0.8, 0.6), (float("nan"), 0.1)), status="diverged")
    add_network("refine", 1, epochs((0.7, 0.65)), status="running")
    add_network("jf", 0, epochs((0.1, 0.1)), where=("mdeq", "cifar10"))
    drawing = draw(CURVES, results, x)
    assert drawing.name == (f"curves-{PLACE}" if x == "time" else f"curves-{PLACE}-steps")
    loss, accuracy = figure_of(drawing).axes
    names = (
        "Jacobian-Free (0 of 1 seed; 1 diverged)",
        "SHINE refine (0 of 1 seed; 1 unfinished)",
        "SHINE",
    )
    assert curves_in(loss) == {
        names[0]: (costs, [0.8, np.inf]),
        names[1]: (costs[:1], [0.7]),
        names[2]: (costs, [0.9, 0.4]),
    }
    assert curves_in(accuracy) == {
        names[0]: (costs, [60, 10]),
        names[1]: (costs[:1], [65]),
        names[2]: (costs, [50, 94]),
    }
    assert (loss.get_xlabel(), loss.get_yscale(), accuracy.get_yscale()) == (label, "log", "linear")
    assert loss.get_ylabel() == "test loss"
    assert accuracy.get_ylabel() == "top-1 (%)"
    band = loss.collections[2].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((0.32, 0.9))  # the tenth of 0.3, 0.4, 0.5


def test_network_curves_have_a_row_for_each_model_and_budget(add_network, results: Path) -> None:
    add_network("refine", 0, epochs((0.9, 0.5)))
    add_network("refine", 0, epochs((0.9, 0.5)), steps=7)
    add_network("refine", 0, epochs((0.9, 0.5)), steps=7, differs={"outer.epochs": 1})
    figure = figure_of(draw(CURVES, results))
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == [
        f"MDEQ, digits{more}\none seed" for more in ("", "", ", 1 epoch", ", 1 epoch")
    ]
    _, changed = figure.axes[0].get_lines()
    (alone,) = figure.axes[2].get_lines()
    assert changed.get_label() == alone.get_label() == "SHINE refine (7 backward steps)"
    assert changed.get_color() == alone.get_color()


def test_network_curves_have_no_axis_of_products(add_network, results: Path) -> None:
    add_network("jf", 0, epochs((0.9, 0.5)))
    drawing = draw(CURVES, results, "products")
    assert drawing.figure is None
    (note,) = drawing.notes
    assert note.startswith(
        f"curves-{PLACE}: not drawn against products: a training run has only means per step"
    )
