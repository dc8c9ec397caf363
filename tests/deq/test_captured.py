"""A captured step: its memory and refusals, on a CPU, where it is run in place of a graph."""

import pytest
import torch
from deq_cells import TanhCell, normal
from torch import Tensor

from shine_exp.deq import DEQ, Captured, Uncapturable
from shine_exp.inverse.shine import Shine
from shine_exp.solvers.broyden import Broyden


def training(cell: TanhCell):
    """A step of gradient descent on a layer of the cell."""
    layer = DEQ(cell, Broyden(8), Shine(), tol=1e-2, warn=False)

    def step(x: Tensor, targets: dict[str, Tensor]) -> Tensor:
        layer.zero_grad(set_to_none=True)
        loss = (layer(torch.zeros_like(targets["z"]), x) - targets["z"]).square().mean()
        loss.backward()
        with torch.no_grad():
            for parameter in cell.parameters():
                parameter -= 0.1 * parameter.grad
        return loss

    return step, layer


def batches(n: int, size: int = 4) -> list[tuple[Tensor, dict[str, Tensor]]]:
    return [(normal(size, 3, seed=2 * i), {"z": normal(size, 8, seed=2 * i + 1)}) for i in range(n)]


def test_captured_training_has_the_losses_and_weights_of_the_ordinary_one() -> None:
    cells = TanhCell(), TanhCell()
    (step, ordinary), (other, layer) = map(training, cells)
    captured = Captured(other)
    for x, targets in batches(7):
        expected = step(x, targets)
        found = captured(x, targets)
        torch.testing.assert_close(found, expected.detach(), rtol=1e-12, atol=0)
        assert layer.last.steps == 8
    assert ordinary.last.steps < 8, "it was to stop early"
    for a, b in zip(*(cell.parameters() for cell in cells), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_captured_step_writes_over_what_it_returned() -> None:
    captured = Captured(lambda x: {"double": 2 * x, "name": "kept"})
    warm_up = [captured(torch.full((2,), float(i)))["double"] for i in range(3)]
    assert [t[0].item() for t in warm_up] == [0, 2, 4]
    first, second = captured(torch.ones(2)), captured(torch.full((2,), 5.0))
    assert first["double"] is second["double"]
    assert second["double"].tolist() == [10, 10]
    assert second["name"] == "kept"


def test_captured_step_leaves_what_it_is_given() -> None:
    captured = Captured(lambda x: x.add_(1))
    x = torch.zeros(2)
    for _ in range(5):
        assert captured(x).tolist() == [1, 1]
    assert x.tolist() == [0, 0]


def test_captured_step_takes_each_shape_by_itself() -> None:
    captured = Captured(lambda x: x.sum())
    for _ in range(5):
        for size in (2, 3):
            assert captured(torch.ones(size)) == size


@pytest.mark.parametrize(
    "step", [lambda x: x if x.sum() > 0 else -x, lambda x: x[x > 0]], ids=["branch", "mask"]
)
def test_captured_step_that_waits_is_refused_with_the_line(step) -> None:
    with pytest.raises(Uncapturable, match=r"is read back \(.*test_captured.py, line \d+\)"):
        Captured(step)(torch.ones(2))


def test_captured_step_that_waits_may_go_on_as_it_is() -> None:
    told = []
    captured = Captured(lambda x: x if x.sum() > 0 else -x, otherwise=told.append)
    for value in (1.0, -1.0, -2.0):
        assert captured(torch.full((2,), value))[0] == abs(value)
    (why,) = told
    assert "cannot be captured" in why


def test_captured_step_takes_tensors_alone() -> None:
    with pytest.raises(Uncapturable, match="called with a float: take tensors"):
        Captured(lambda x, rate: rate * x)(torch.ones(2), 0.1)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ((), "its inputs have no tensor"),
        ((torch.ones(2), torch.ones(2, device="meta")), "its inputs are on cpu and meta"),
    ],
)
def test_captured_step_must_know_its_device(inputs, says: str) -> None:
    with pytest.raises(Uncapturable, match=says):
        Captured(lambda *x: None)(*inputs)


def test_captured_step_that_moves_its_inputs_to_its_device_waits() -> None:
    step = Captured(lambda x: x.to("meta") + 1, device=torch.device("meta"))
    with pytest.raises(Uncapturable, match=r"a copy between cpu and meta \(.*, line \d+\)"):
        step(torch.ones(2))


@pytest.mark.parametrize("otherwise", [None, lambda why: None])
def test_captured_step_that_cannot_be_recorded_is_refused_or_run(otherwise, monkeypatch) -> None:
    """As where a kernel that PyTorch does not show waits for the device."""

    def refuse(self) -> None:
        raise Uncapturable("operation not permitted when stream is capturing")

    monkeypatch.setattr("shine_exp.deq.captured._Recording._recorded", refuse)
    captured = Captured(lambda x: 2 * x, otherwise)
    for _ in range(3):
        captured(torch.ones(2))
    if otherwise is None:
        with pytest.raises(Uncapturable, match=r"cannot be captured.*: operation not permitted"):
            captured(torch.ones(2))
    else:
        assert captured(torch.ones(2)).tolist() == captured(torch.ones(2)).tolist() == [2, 2]
