"""Image classification by an MDEQ: the data, the loss, and what is measured."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from pydantic import PositiveFloat
from torch import Tensor
from torch.nn.functional import cross_entropy

from shine_exp.data.images import Images
from shine_exp.deq.contractivity import spectral_radius
from shine_exp.deq.layer import DEQ
from shine_exp.deq.linearisation import Linearisation
from shine_exp.deq.packing import Packing
from shine_exp.errors import UserError
from shine_exp.solvers.broyden import Broyden
from shine_exp.solvers.iterates import RootFunction
from shine_exp.training.images.mdeq import MDEQ, Recipe
from shine_exp.types import InverseMethod, Solver

EVALUATION_BATCH = 128
RADIUS_BATCH = 32


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy and share of correct labels (top-1) on the test set.

    `unsolved` is the number of images whose equilibrium missed the tolerance, None where none was
    solved for.
    """

    loss: float
    accuracy: float
    unsolved: int | None


class ImageClassification:
    """min_w of the cross-entropy of an MDEQ's logits over the training images.

    Raises `UserError` where the sizes of the network do not fit together.
    """

    solution = "root"
    data_type = Images

    @staticmethod
    def sets(images: Images, seed: int) -> Images:
        """The training and the test set as the data has them."""
        return images

    def __init__(
        self,
        splits: Images,
        model: Recipe,
        tol: PositiveFloat,
        adjoint_tol: PositiveFloat,
        device: str,
    ) -> None:
        self.images, self.architecture, self.device = splits, model.architecture, device
        self.tol, self.adjoint_tol = tol, adjoint_tol
        self.sizes = {"n_train": len(splits.train.labels), "n_test": len(splits.test.labels)}
        try:
            with torch.device("meta"):  # shapes alone
                self._network(lambda cell: DEQ(cell, Broyden(), None))
        except ValueError as error:
            raise UserError(
                f"problem.model.architecture: its sizes do not fit together ({error})"
            ) from error

    def network(
        self,
        solver: Solver[RootFunction],
        inverse: InverseMethod | None,
        opa: int | None,
        seed: int,
    ) -> MDEQ:
        """A new network with weights by the seed."""

        def layer(cell: torch.nn.Module) -> DEQ:
            # The loop counts what misses its tolerance.
            return DEQ(
                cell,
                solver,
                inverse,
                tol=self.tol,
                adjoint_tol=self.adjoint_tol,
                opa=opa,
                warn=False,
            )

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._network(layer).to(self.device)

    def _network(self, layer: Callable[[torch.nn.Module], DEQ]) -> MDEQ:
        return MDEQ(self.architecture, self.images.shape[0], self.images.n_classes, layer)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised training images and their labels, on the device."""
        train = self.images.train
        return self.images.normalise(train.pixels[indices].to(self.device)), train.labels[
            indices
        ].to(self.device)

    @torch.no_grad()
    def at_equilibrium(self, network: MDEQ, images: Tensor) -> tuple[RootFunction, Tensor]:
        """f(·, x), on packed vectors, and z* (batch, d), in the network's mode and the precision
        of the images.
        """
        z0, inputs = network.start(images)
        packing = Packing.of(z0)
        z = packing.pack(network.equilibrium(z0, *inputs))
        return packing.lift(network.equilibrium.cell, *inputs), z

    def spectral_radius(self, network: MDEQ, n_steps: int) -> float:
        """Median over a batch of test images of ρ(∂f/∂z) at the equilibrium, in evaluation mode,
        which stays.
        """
        network.eval()
        images = self.images.normalise(self.images.test.pixels[:RADIUS_BATCH].to(self.device))
        f, z = self.at_equilibrium(network, images)
        radii = spectral_radius(Linearisation(f, z), n_steps, torch.Generator().manual_seed(0))
        return float(radii.median())

    @torch.no_grad()
    def evaluate(self, network: MDEQ, n_unrolled: int | None) -> Evaluation:
        """On the whole test set, in evaluation mode, which stays."""
        network.eval()
        loss, correct, unsolved = 0.0, 0, 0
        test = self.images.test
        for pixels, labels in zip(
            test.pixels.split(EVALUATION_BATCH), test.labels.split(EVALUATION_BATCH), strict=True
        ):
            labels = labels.to(self.device)
            logits = network(self.images.normalise(pixels.to(self.device)), n_unrolled=n_unrolled)
            loss += float(cross_entropy(logits, labels, reduction="sum"))
            correct += int((logits.argmax(-1) == labels).sum())
            if n_unrolled is None:
                unsolved += int((~network.equilibrium.last.converged).sum())
        n = len(test.labels)
        return Evaluation(loss / n, correct / n, unsolved if n_unrolled is None else None)
