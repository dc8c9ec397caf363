"""A state as vectors and back: nothing is lost, mixed, or moved in memory without need."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from shine_exp.deq.flattening import Flattening

sizes = st.integers(1, 4)


@st.composite
def tensors(draw, batch: int) -> Tensor:
    shape = (batch, *draw(st.lists(sizes, min_size=1, max_size=4)))
    t = (
        torch.arange(torch.Size(shape).numel(), dtype=torch.float64).reshape(shape)
        + draw(sizes) / 8
    )
    if t.ndim == 4 and draw(st.booleans()):
        return t.contiguous(memory_format=torch.channels_last)
    return t


@st.composite
def states(draw) -> Tensor | list[Tensor]:
    batch = draw(sizes)
    if draw(st.booleans()):
        return draw(tensors(batch))
    return [draw(tensors(batch)) for _ in range(draw(st.integers(1, 4)))]


def parts(z: Tensor | list[Tensor]) -> list[Tensor]:
    return [z] if isinstance(z, Tensor) else z


def is_channels_last(t: Tensor) -> bool:
    return (
        t.ndim == 4 and t.is_contiguous(memory_format=torch.channels_last) and not t.is_contiguous()
    )


@settings(max_examples=150)
@given(z=states())
def test_unflattening_undoes_flattening(z) -> None:
    flattening = Flattening.of(z)
    v = flattening.flatten(z)
    assert v.shape == (len(parts(z)[0]), sum(t[0].numel() for t in parts(z)))
    back = flattening.unflatten(v)
    assert isinstance(back, Tensor) == isinstance(z, Tensor)
    assert all(torch.equal(a, b) for a, b in zip(parts(back), parts(z), strict=True))
    assert torch.equal(flattening.flatten(back), v)


@settings(max_examples=150)
@given(z=states())
def test_flattened_row_is_a_sample(z) -> None:
    flattening = Flattening.of(z)
    changed = [t.clone() for t in parts(z)]
    for t in changed:
        t[-1] += 1
    difference = flattening.flatten(
        changed[0] if isinstance(z, Tensor) else changed
    ) - flattening.flatten(z)
    assert difference[:-1].count_nonzero() == 0
    assert torch.equal(difference[-1], torch.ones_like(difference[-1]))


@settings(max_examples=150)
@given(z=states())
def test_flattening_keeps_channels_last_order(z) -> None:
    """Of each sample: between samples lie the other tensors of the state."""
    flattening = Flattening.of(z)
    for before, after in zip(
        parts(z), parts(flattening.unflatten(flattening.flatten(z))), strict=True
    ):
        if is_channels_last(before):
            assert after.stride()[1:] == before.stride()[1:]
        else:
            assert after[0].is_contiguous()


def test_flattening_moves_no_single_channels_last_tensor() -> None:
    z = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    flattening = Flattening.of(z)
    v = flattening.flatten(z)
    assert v.data_ptr() == flattening.unflatten(v).data_ptr() == z.data_ptr()
    assert flattening.unflatten(v).is_contiguous(memory_format=torch.channels_last)


def test_flattening_takes_another_memory_format() -> None:
    z = [
        torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        torch.randn(2, 3, 4, 5),
    ]
    other = [z[0].contiguous(), z[1].contiguous(memory_format=torch.channels_last)]
    assert torch.equal(Flattening.of(z).flatten(other), Flattening.of(z).flatten(z))


def test_flattening_takes_another_precision() -> None:
    flattening = Flattening.of([torch.zeros(2, 3), torch.zeros(2, 4)])
    assert (
        flattening.flatten([torch.zeros(2, 3).bfloat16(), torch.zeros(2, 4).bfloat16()]).dtype
        is torch.float32
    )


def test_flattening_passes_gradients_both_ways() -> None:
    z = [torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last), torch.randn(2, 7)]
    for t in z:
        t.requires_grad_()
    flattening = Flattening.of(z)
    back = flattening.unflatten(flattening.flatten(z))
    weights = [torch.randn_like(t) for t in z]
    sum((a * w).sum() for a, w in zip(back, weights, strict=True)).backward()
    assert all(torch.equal(t.grad, w) for t, w in zip(z, weights, strict=True))
