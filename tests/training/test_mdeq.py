"""The multiscale network: shapes, dropout, statistics, independence of samples, gradients."""

import copy

import pytest
import torch
from deq_cells import Watched, normal
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from shine_exp.deq import DEQ
from shine_exp.inverse.full import Full
from shine_exp.inverse.jacobian_free import JacobianFree
from shine_exp.inverse.shine import Shine
from shine_exp.solvers.adjoint_broyden import AdjointBroyden
from shine_exp.solvers.broyden import Broyden
from shine_exp.training.images.mdeq import MDEQ, Architecture

pytestmark = [
    pytest.mark.usefixtures("without_onednn"),
    pytest.mark.filterwarnings("ignore::shine_exp.deq.ConvergenceWarning"),
]


def network(
    n_branches: int = 2,
    *,
    n_downsamplings: int = 0,
    dropout: float = 0.0,
    channels_last: bool = True,
    solver=None,
    inverse=None,
    tol: float = 1e-5,
) -> MDEQ:
    architecture = Architecture(
        channels=[4 * 2**i for i in range(n_branches)],
        head_channels=[2] * n_branches,
        final_channels=6,
        expansion=2,
        groups=2,
        n_downsamplings=n_downsamplings,
        dropout=dropout,
        channels_last=channels_last,
    )

    def layer(cell: nn.Module) -> DEQ:
        return DEQ(cell, solver or Broyden(4), inverse or JacobianFree(), tol=tol)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MDEQ(architecture, 3, 5, layer)


def images(batch: int = 4, height: int = 8, width: int = 8, seed: int = 1) -> Tensor:
    return normal(batch, 3, height, width, seed=seed).float()


def masks(net: MDEQ, seed: int, batch: int = 4) -> list[Tensor]:
    """Of dropout."""
    return net.architecture.dropout_masks(batch, torch.Generator().manual_seed(seed))


def contract(net: MDEQ) -> MDEQ:
    """The cell of small gain, so that its equilibrium exists and is found."""
    for *_, norm in net.equilibrium.cell.mix:
        nn.init.constant_(norm.weight, 0.2)
    return net


def watch_cell(net: MDEQ) -> list[tuple[list[Tensor], Tensor, tuple[Tensor, ...]]]:
    """The arguments of every evaluation of the cell from here on: state, injection, masks."""
    calls: list = []
    net.equilibrium.cell.register_forward_pre_hook(
        lambda cell, a: calls.append((a[0], a[1], tuple(a[2:])))
    )
    return calls


@pytest.mark.parametrize(
    ("n_branches", "n_downsamplings"), [(1, 2), (2, 0), (2, 1), (3, 2), (4, 0)]
)
@pytest.mark.parametrize("size", [(16, 16), (32, 16)])
def test_mdeq_shapes(n_branches: int, n_downsamplings: int, size: tuple[int, int]) -> None:
    net = network(n_branches, n_downsamplings=n_downsamplings)
    calls = watch_cell(net)
    assert net(images(3, *size)).shape == (3, 5)
    height, width = (n >> n_downsamplings for n in size)
    expected = [(3, 4 * 2**i, height >> i, width >> i) for i in range(n_branches)]
    assert [tuple(t.shape) for t in calls[0][0]] == expected
    assert tuple(calls[0][1].shape) == expected[0]


@pytest.mark.parametrize(("n_branches", "n_downsamplings"), [(1, 2), (2, 0), (2, 1), (4, 0)])
@pytest.mark.parametrize("size", [(9, 7), (13, 10)])
def test_mdeq_takes_odd_image_sizes(
    n_branches: int, n_downsamplings: int, size: tuple[int, int]
) -> None:
    assert network(n_branches, n_downsamplings=n_downsamplings)(images(3, *size)).shape == (3, 5)


@pytest.mark.parametrize("channels_last", [True, False])
def test_mdeq_keeps_its_memory_format_in_every_evaluation(channels_last: bool) -> None:
    net = network(2, channels_last=channels_last)
    calls = watch_cell(net)
    net(images())
    for state, injected, _ in calls:
        assert all(t.stride(1 if channels_last else -1) == 1 for t in (*state, injected))


def test_mdeq_memory_format_changes_numbers_by_rounding_alone() -> None:
    torch.testing.assert_close(
        *(network(2, channels_last=last)(images()) for last in (True, False))
    )


def test_mdeq_has_one_dropout_mask_in_all_evaluations_of_a_solve() -> None:
    net = network(3, dropout=0.5)
    calls = watch_cell(net)
    drawn = masks(net, 1)
    net(images(), drawn)
    assert len(calls) == net.equilibrium.last.evals + 1 > 3
    for *_, seen in calls:
        assert all(torch.equal(a, b) for a, b in zip(seen, drawn, strict=True))


def test_dropout_masks_keep_the_mean_and_follow_from_the_generator_alone() -> None:
    net = network(3, dropout=0.25)
    state = torch.get_rng_state()
    first, again, other = masks(net, 1, 500), masks(net, 1, 500), masks(net, 2, 500)
    assert torch.equal(torch.get_rng_state(), state)
    assert [tuple(mask.shape) for mask in first] == [(500, c, 1, 1) for c in (4, 8, 16)]
    entries = torch.cat([mask.flatten() for mask in first])
    assert entries.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert float(entries.mean()) == pytest.approx(1, abs=0.02)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert masks(network(3), 1) == []


def test_unrolled_mdeq_applies_the_cell_so_often_with_one_mask() -> None:
    net = network(2, dropout=0.5)
    net.equilibrium.n_unrolled = 6
    calls = watch_cell(net)
    drawn = masks(net, 3)
    net(images(), drawn).sum().backward()
    assert len(calls) == 6
    assert all(torch.equal(seen[0], drawn[0]) for _, _, seen in calls)
    assert all(p.grad is not None for p in net.parameters())


def test_opa_does_not_change_running_statistics_of_the_head() -> None:
    """The head's are those of one pass in training mode, although the solver made more of them."""
    net = network(2, solver=AdjointBroyden(6, opa=2), inverse=Shine(), tol=0.0)
    labels = torch.arange(4)
    before, heads, criteria = copy.deepcopy(net.head), [], []
    net.head.register_forward_pre_hook(lambda head, a: heads.append(a[0]))

    def criterion(logits: Tensor) -> Tensor:
        criteria.append(logits)
        return cross_entropy(logits, labels)

    net(images(), criterion=criterion)
    assert (len(criteria), len(heads)) == (3, 4)
    before([t.detach() for t in heads[-1]])
    for (name, found), expected in zip(net.head.named_buffers(), before.buffers(), strict=True):
        assert torch.equal(found, expected), name
    assert all(m.track_running_stats for m in net.modules() if isinstance(m, nn.BatchNorm2d))


def test_opa_is_of_the_loss_in_the_mode_of_the_network() -> None:
    """In training the statistics of the batch, as in the logits that follow."""
    net = network(2, solver=AdjointBroyden(6, opa=6), inverse=Shine(), tol=0.0)
    seen = []

    def criterion(logits: Tensor) -> Tensor:
        seen.append(logits.detach())
        return logits.sum()

    states = []
    net.head.register_forward_pre_hook(lambda head, a: states.append([t.detach() for t in a[0]]))
    net(images(), criterion=criterion)
    assert torch.equal(seen[0], copy.deepcopy(net.head).train()(states[0]))


@pytest.mark.parametrize("solver", [Broyden(15), AdjointBroyden(15)])
def test_mdeq_logits_of_a_sample_do_not_depend_on_its_batch(solver) -> None:
    """In evaluation mode, although the samples stop at different steps."""
    watched = Watched(solver)
    net = contract(network(2, solver=watched, tol=0.02)).double().eval()
    x = images(6).double() * torch.tensor([0.01, 0.1, 0.5, 1.0, 2.0, 5.0])[:, None, None, None]
    with torch.no_grad():
        together = net(x)
        tol = 0.02 * watched.solution.z.shape[-1] ** 0.5
        solved = torch.stack(watched.values).norm(dim=-1) <= tol
        alone = torch.cat([net(x[i : i + 1]) for i in range(6)])
    assert len(set(solved.sum(dim=0).tolist())) > 2, "the samples were to stop at different steps"
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-8)


@pytest.mark.parametrize("n_branches", [1, 3])
@pytest.mark.parametrize("inverse", [JacobianFree(), Shine(), Full(factor=1.0, max_steps=8)])
def test_mdeq_every_parameter_gets_a_gradient(n_branches: int, inverse) -> None:
    net = network(n_branches, inverse=inverse, solver=Broyden(8), dropout=0.25)
    cross_entropy(net(images(), masks(net, 5)), torch.arange(4)).backward()
    for name, p in net.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().max() > 0, name


def test_mdeq_gradient_equals_finite_differences() -> None:
    """Finite differences of the loss along a random direction of all parameters."""
    net = network(2, solver=Broyden(60), inverse=Full(factor=1.0, max_steps=60), tol=1e-12)
    contract(net).double()
    net.equilibrium.adjoint_tol = 1e-11
    x, labels = images(2, 4, 4).double(), torch.tensor([1, 4])

    def loss() -> Tensor:
        return cross_entropy(net(x), labels)

    loss().backward()
    assert net.equilibrium.last.forward_residual.max() < 1e-9
    assert net.equilibrium.last.backward_residual.max() < 1e-9
    direction = [
        normal(*p.shape, seed=i) * p.detach().abs().mean() for i, p in enumerate(net.parameters())
    ]
    found = sum(float((p.grad * d).sum()) for p, d in zip(net.parameters(), direction, strict=True))
    h, ends = 1e-6, []
    for step in (h, -2 * h):
        with torch.no_grad():
            for p, d in zip(net.parameters(), direction, strict=True):
                p += step * d
            ends.append(float(loss()))
    assert found == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-4)
