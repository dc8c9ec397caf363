"""Image classification as a task: its batches follow from the seed and the step alone."""

from dataclasses import replace

import pytest
import torch

from shine_exp.data.images import Images, LabelledImages
from shine_exp.deq import DEQ
from shine_exp.errors import UserError
from shine_exp.inverse.jacobian_free import JacobianFree
from shine_exp.processes import Processes
from shine_exp.solvers.broyden import Broyden
from shine_exp.training.images import image_classification as module
from shine_exp.training.images.image_classification import ImageClassification
from shine_exp.training.images.mdeq import Architecture

ARCHITECTURE = Architecture(
    channels=[4],
    head_channels=[2],
    final_channels=4,
    expansion=1,
    groups=2,
    n_downsamplings=0,
    dropout=0.5,
    channels_last=False,
)


def images(n_train: int = 10, n_test: int = 6) -> Images:
    """Every training image has a grey value of its own."""

    def grey(n: int) -> torch.Tensor:
        return torch.arange(n, dtype=torch.uint8)[:, None, None, None].repeat(1, 1, 8, 8)

    train = LabelledImages(grey(n_train), torch.arange(n_train) % 2)
    return Images(train, LabelledImages(grey(n_test), torch.arange(n_test) % 2), 2, "grey")


def task(batch_size: int = 3, augment: bool = False, **sizes: int) -> ImageClassification:
    return ImageClassification(images(**sizes), "cpu", ARCHITECTURE, batch_size, augment)


def test_epoch_of_images_sees_each_at_most_once_in_an_order_of_its_own() -> None:
    """Ten images in batches of three: one is left out."""
    classification = task()
    assert classification.steps_per_epoch == 3
    epochs = []
    for epoch in (0, 1):
        batches = [classification.batch(0, 3 * epoch + place) for place in range(3)]
        epochs.append(torch.cat([batch.images[:, 0, 0, 0] for batch in batches]))
    for seen in epochs:
        assert len(seen.unique()) == 9
    assert not torch.equal(*epochs)


def test_batch_larger_than_the_images_holds_all_of_them() -> None:
    classification = task(batch_size=100)
    assert classification.steps_per_epoch == 1
    assert len(classification.batch(0, 0).labels) == 10


def test_batch_of_images_follows_from_seed_and_step() -> None:
    """Its images, crops and dropout masks, whatever was drawn before."""
    classification = task(augment=True)
    first = classification.batch(1, 5)
    classification.batch(1, 6)
    torch.rand(3)
    again, next_step, next_seed = (
        classification.batch(seed, step) for seed, step in ((1, 5), (1, 6), (2, 5))
    )
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.masks[0], again.masks[0])
    for other in (next_step, next_seed):
        assert not torch.equal(first.images, other.images)
        assert not torch.equal(first.masks[0], other.masks[0])


def test_shares_of_a_batch_of_images_are_its_samples_with_their_masks() -> None:
    """Crops and dropout masks belong to a sample, however many processes share the batch."""
    classification = task(batch_size=4, augment=True)
    whole = classification.batch(1, 1)
    shares, weights = zip(
        *(classification.share(whole, Processes(rank, 2)) for rank in range(2)), strict=True
    )
    assert weights == (0.5, 0.5)
    assert torch.equal(torch.cat([share.images for share in shares]), whole.images)
    assert torch.equal(torch.cat([share.labels for share in shares]), whole.labels)
    assert torch.equal(torch.cat([share.masks[0] for share in shares]), whole.masks[0])


def test_augmentation_changes_training_images_alone() -> None:
    """Constant images of normalised grey get zeros where they are cropped beyond their edge."""
    plain, augmented = task().batch(0, 0), task(augment=True).batch(0, 0)
    assert torch.equal(plain.labels, augmented.labels)
    assert plain.images.flatten(1).std(dim=1).max() == 0
    assert augmented.images.flatten(1).std(dim=1).max() > 0


def test_images_of_a_large_set_stay_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """And give the same batches; "meta" stands for a GPU."""
    here, there = images(), ImageClassification(images(), "meta", ARCHITECTURE, 3, True)
    assert {part.device.type for part in (there.train.pixels, there.test.labels)} == {"meta"}
    assert there.batch(0, 0).images.device.type == "meta"
    monkeypatch.setattr(module, "LARGEST_ON_DEVICE", 0)
    large = ImageClassification(here, "meta", ARCHITECTURE, 3, True)
    assert large.train is here.train
    assert large.batch(0, 0).images.device.type == "meta"
    streamed = ImageClassification(here, "cpu", ARCHITECTURE, 3, True)
    for ours, theirs in zip(streamed.batch(1, 7), task(augment=True).batch(1, 7), strict=True):
        assert all(map(torch.equal, ours, theirs))


def test_order_of_an_epoch_does_not_depend_on_what_was_asked_before() -> None:
    classification = task()
    first = classification.batch(0, 0).images
    for seed, step in ((0, 3), (1, 0)):
        classification.batch(seed, step)
    assert torch.equal(classification.batch(0, 0).images, first)


def test_loss_of_images_is_a_function_of_network_and_batch() -> None:
    classification = task()
    torch.manual_seed(0)
    network = classification.network(lambda cell: DEQ(cell, Broyden(5), JacobianFree(), warn=False))
    batch, other = classification.batch(0, 0), classification.batch(0, 1)
    first = classification.loss(network, batch)
    classification.loss(network, other)
    assert torch.equal(classification.loss(network, batch), first)


def test_evaluation_of_images_is_a_mean_over_all_of_them() -> None:
    """Over more than one batch, whose last one is not full."""
    classification = task(n_test=150)
    network = lambda pixels: torch.stack([pixels[:, 0, 0, 0], -pixels[:, 0, 0, 0]], 1)  # noqa: E731
    measured = classification.evaluate(network)
    test = classification.data.test
    logits = network(classification.data.normalise(test.pixels))
    loss = torch.nn.functional.cross_entropy(logits, test.labels)
    assert measured["test_loss"] == pytest.approx(float(loss), rel=1e-5)
    correct = (logits.argmax(-1) == test.labels).double().mean()
    assert measured["accuracy"] == pytest.approx(float(correct), rel=1e-12)
    assert tuple(measured) == classification.columns


def test_image_classification_refuses_sizes_that_do_not_fit_together() -> None:
    architecture = replace(ARCHITECTURE, groups=3)
    with pytest.raises(UserError, match=r"problem\.architecture: its sizes do not fit together"):
        ImageClassification(images(), "cpu", architecture, 3, False)
