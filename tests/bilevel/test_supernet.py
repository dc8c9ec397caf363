"""The supernet's products with matrices against PyTorch's convolutions."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from shine_exp.bilevel.problems.architecture.network_table import choices, one_hot, simplest
from shine_exp.bilevel.problems.architecture.supernet import (
    CONV,
    IDENTITY,
    NONE,
    POINT,
    POOL,
    Supernet,
)


def filled(net: Supernet) -> dict[str, Tensor]:
    """θ with biases that are not 0."""
    drawn = torch.Generator().manual_seed(1)
    theta = net.start(0)
    return {
        name: part + 0.1 * torch.randn(part.shape, dtype=torch.float64, generator=drawn)
        for name, part in theta.items()
    }


def by_convolutions(p: Tensor, theta: dict[str, Tensor], images: Tensor) -> Tensor:
    def edge(e: int, x: Tensor) -> Tensor:
        z = x.tanh()
        point = conv2d(z, theta["point"][e], theta["point_bias"][e])
        conv = conv2d(z, theta["conv"][e], theta["conv_bias"][e], padding=1)
        pool = avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return p[e, IDENTITY] * x + p[e, POINT] * point + p[e, CONV] * conv + p[e, POOL] * pool

    first = conv2d(images, theta["stem"], theta["stem_bias"], stride=2, padding=1)
    third = edge(1, first) + edge(2, edge(0, first))
    return third.mean(dim=(2, 3)) @ theta["head"].T + theta["head_bias"]


@pytest.mark.parametrize(("side", "width"), [(8, 4), (5, 2)])
def test_supernet_is_the_network_of_convolutions(side: int, width: int) -> None:
    net = Supernet(side, 3, width, "cpu")
    theta, images = filled(net), torch.randn(6, 1, side, side, dtype=torch.float64)
    mixtures = [torch.randn(3, 5, dtype=torch.float64).softmax(dim=1)]
    mixtures += [one_hot(choice) for choice in itertools.islice(choices(), 0, None, 7)]
    for mixture in mixtures:
        torch.testing.assert_close(
            net(mixture, theta, images.flatten(1)), by_convolutions(mixture, theta, images)
        )


def test_n_weights_counts_what_an_operation_adds() -> None:
    net = Supernet(8, 10, 4, "cpu")
    assert net.n_weights().tolist() == [0, 0, 20, 148, 0]
    assert sum(part.numel() for part in net.start(0).values()) == 594


def test_theta0_follows_from_the_seed() -> None:
    net = Supernet(8, 10, 4, "cpu")
    first, same, other = net.start(0), net.start(0), net.start(1)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["conv"], other["conv"])


def test_simplest_network_computes_the_same() -> None:
    net = Supernet(6, 3, 2, "cpu")
    theta, images = filled(net), torch.randn(4, 36, dtype=torch.float64)
    for choice in choices():
        same = simplest(choice)
        assert simplest(same) == same <= choice
        torch.testing.assert_close(
            net(one_hot(choice), theta, images), net(one_hot(same), theta, images)
        )
    assert len({simplest(choice) for choice in choices()}) == 95
    assert simplest((CONV, POOL, NONE)) == (NONE, POOL, NONE)
