"""The small networks against PyTorch's own layers."""

import pytest
import torch
from torch import nn

from shine_exp.bilevel.problems.augmentation.classifiers import (
    Classifier,
    ConvNet,
    Linear,
    TanhNetwork,
)

SHAPE, N_CLASSES = (3, 8, 6), 4
MODELS = [Linear(), TanhNetwork(5), ConvNet(3)]
LAYERS = {
    Linear: lambda: nn.Sequential(nn.Flatten(), nn.Linear(144, 4)),
    TanhNetwork: lambda: nn.Sequential(nn.Flatten(), nn.Linear(144, 5), nn.Tanh(), nn.Linear(5, 4)),
    ConvNet: lambda: nn.Sequential(
        *(nn.Conv2d(3, 3, 3, stride=2, padding=1), nn.Tanh()),
        *(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.Tanh()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)),
    ),
}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_classifier_is_the_network_of_layers(model: Classifier) -> None:
    drawn = torch.Generator().manual_seed(0)
    start = model.start(SHAPE, N_CLASSES, seed=0)
    theta = {
        name: torch.randn(part.shape, dtype=torch.float64, generator=drawn)
        for name, part in start.items()
    }
    layers = LAYERS[type(model)]().double()
    with torch.no_grad():
        for own, given in zip(layers.parameters(), theta.values(), strict=True):
            own.copy_(given)
    images = torch.randn(7, *SHAPE, dtype=torch.float64)
    torch.testing.assert_close(model(theta, images), layers(images))


@pytest.mark.parametrize("model", MODELS[1:], ids=lambda model: type(model).__name__)
def test_theta0_follows_from_the_seed_and_is_scaled_by_its_inputs(model: Classifier) -> None:
    first, same, other = (model.start(SHAPE, N_CLASSES, seed) for seed in (0, 0, 1))
    assert torch.equal(first["first"], same["first"])
    assert not torch.equal(first["first"], other["first"])
    n_inputs = first["first"][0].numel()
    assert float(first["first"].std()) == pytest.approx(n_inputs**-0.5, rel=0.25)
    assert not first["first_bias"].any()
