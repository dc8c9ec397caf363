import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from web_server import Server

from shine_exp.data.images import Images, balanced_subset
from shine_exp.data.sets import cifar10 as module
from shine_exp.errors import DataError

RECORDS = 20
RNG = np.random.default_rng(0)
NAMES = [*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]
PIXELS = RNG.integers(0, 256, (6, RECORDS, 3, 32, 32), dtype=np.uint8)
LABELS = np.array([RNG.permutation(np.arange(RECORDS) % 10) for _ in NAMES], dtype=np.uint8)
BATCHES = {
    name: b"".join(
        bytes([label]) + image.tobytes() for label, image in zip(labels, pixels, strict=True)
    )
    for name, labels, pixels in zip(NAMES, LABELS, PIXELS, strict=True)
}


def archive(batches: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in {
            "batches.meta.txt": b"airplane\n",
            "readme.html": b"<html>",
            **batches,
        }.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture(autouse=True)
def small(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "URL", server.url)
    monkeypatch.setattr(module, "RECORDS", RECORDS)
    serve(server, monkeypatch, BATCHES)


def serve(server: Server, monkeypatch: pytest.MonkeyPatch, batches: dict[str, bytes]) -> None:
    server.content = archive(batches)
    monkeypatch.setattr(module, "MD5", hashlib.md5(server.content).hexdigest())


def refusal(cache: Path) -> str:
    with pytest.raises(DataError) as caught:
        module.cifar10(str(cache), None, None, 0)
    assert str(caught.value).isprintable(), "one line"
    return str(caught.value)


def is_the_data(images: Images) -> None:
    np.testing.assert_array_equal(images.train.pixels.numpy(), PIXELS[:5].reshape(-1, 3, 32, 32))
    np.testing.assert_array_equal(images.train.labels.numpy(), LABELS[:5].ravel())
    np.testing.assert_array_equal(images.test.pixels.numpy(), PIXELS[5])
    np.testing.assert_array_equal(images.test.labels.numpy(), LABELS[5])
    assert (images.n_classes, images.shape, images.name) == (10, (3, 32, 32), "cifar10")


def test_batches_in_their_order(tmp_path: Path) -> None:
    is_the_data(module.cifar10(str(tmp_path), None, None, 0))


def test_order_in_the_archive_does_not_matter(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(server, monkeypatch, dict(reversed(BATCHES.items())))
    is_the_data(module.cifar10(str(tmp_path), None, None, 0))


def test_downloads_and_decodes_once(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    module.cifar10("~/cache", None, None, 0)
    (tmp_path / "cache" / "cifar-10-binary.tar.gz").unlink()
    is_the_data(module.cifar10("~/cache", None, None, 0))
    assert len(server.requests) == 1


def test_copy_put_there_by_hand_is_taken_and_nothing_is_extracted(
    tmp_path: Path, server: Server
) -> None:
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(server.content or b"")
    is_the_data(module.cifar10(str(tmp_path), None, None, 0))
    assert not server.requests
    assert not list(tmp_path.rglob("*.bin"))


def test_subset_is_balanced_and_the_test_set_whole(tmp_path: Path) -> None:
    full = module.cifar10(str(tmp_path), None, None, 0)
    for seed in (0, 1):
        images = module.cifar10(str(tmp_path), 30, None, seed)
        assert torch.equal(images.train.pixels, balanced_subset(full.train, 30, 10, seed).pixels)
        assert torch.bincount(images.train.labels).tolist() == [3] * 10
        assert torch.equal(images.test.pixels, full.test.pixels)


def test_other_checksum_is_refused(tmp_path: Path, server: Server) -> None:
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(b"other")
    found = hashlib.md5(b"other").hexdigest()
    assert (
        refusal(tmp_path)
        == f"{path}: its MD5 is {found}, not {module.MD5}; delete the file to download it again"
    )
    path.unlink()
    content, server.content = server.content, b"other"
    assert refusal(tmp_path).startswith(
        f"cannot download {server.url} (what came has another checksum); put a copy at"
    )
    assert not path.exists(), "the next run asks again"
    server.content = content
    is_the_data(module.cifar10(str(tmp_path), None, None, 0))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            {"data_batch_3.bin": BATCHES["data_batch_3.bin"][:-1]},
            "data_batch_3.bin has 61459 bytes, not 61460; delete",
        ),
        (
            {"test_batch.bin": BATCHES["test_batch.bin"] + b"x"},
            "test_batch.bin has 61461 bytes, more than 61460",
        ),
        (
            {"data_batch_2.bin": b"\x0a" + BATCHES["data_batch_2.bin"][1:]},
            "the training set has the label 10",
        ),
    ],
)
def test_malformed_batch_is_refused(
    tmp_path: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, bytes],
    fault: str,
) -> None:
    serve(server, monkeypatch, BATCHES | change)
    assert fault in refusal(tmp_path)


def test_missing_batch_is_refused(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(
        server,
        monkeypatch,
        {name: batch for name, batch in BATCHES.items() if name != "data_batch_4.bin"},
    )
    assert "has no cifar-10-batches-bin/data_batch_4.bin; delete the archive" in refusal(tmp_path)


def test_what_is_no_archive_is_refused(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.content = b"<html>not found</html>"
    monkeypatch.setattr(module, "MD5", hashlib.md5(server.content).hexdigest())
    assert "cannot be read as a tar archive" in refusal(tmp_path)


def test_archive_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-binary.tar.gz").mkdir()
    assert refusal(tmp_path).startswith(
        f"{tmp_path / 'cifar-10-binary.tar.gz'}: is a folder, where the file of {module.URL}"
    )
