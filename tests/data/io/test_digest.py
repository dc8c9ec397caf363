import ast
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from image_files import FILES, colours, encoded, in_folder

import shine_exp.data as data_room
from shine_exp.data.dataset import Dataset
from shine_exp.data.images import Images, LabelledImages, balanced_subset
from shine_exp.data.io import digest as module
from shine_exp.data.io.digest import digest_of, digest_of_arrays, stamp_of
from shine_exp.errors import DataError

Y = np.array([-1.0, 1.0, 1.0])


def test_digest_of_file_is_sha256_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    for content in (b"", b"1 1:1\n", b"2 1:1\n"):
        path.write_bytes(content)
        assert digest_of(path) == digest_of(str(path)) == hashlib.sha256(content).hexdigest()


def test_digest_of_dataset_depends_on_content_alone() -> None:
    x = np.array([[1.0, 0, 0, 2], [0, 3, 0, 0], [0, 0, 0, 4]])
    same = Dataset(x, Y, "a", "none").digest
    assert (
        Dataset(np.asfortranarray(x).astype(">f8"), Y.astype(np.float32), "b", "none").digest
        == same
    )
    sparse = sp.csr_matrix(x)
    wide = sp.csr_matrix(x)
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    assert Dataset(wide, Y, "b", "none").digest == Dataset(sparse, Y, "a", "none").digest
    swapped = sp.csr_matrix(
        (np.array([2.0, 1, 3, 4]), np.array([3, 0, 1, 3]), np.array([0, 2, 3, 4])), shape=(3, 4)
    )
    assert Dataset(swapped, Y, "a", "none").digest == Dataset(sparse, Y, "a", "none").digest
    others = [
        Dataset(x, Y, "a", "variance"),
        Dataset(x, -Y, "a", "none"),
        Dataset(x + np.eye(3, 4) * 1e-15, Y, "a", "none"),
        Dataset(x[:, ::-1], Y, "a", "none"),
        Dataset(sparse, Y, "a", "none"),
        Dataset(sp.csr_matrix(sparse, shape=(3, 4)).reshape(3, 4)[:, [1, 0, 2, 3]], Y, "a", "none"),
        Dataset(
            sp.csr_matrix((sparse.data, sparse.indices, sparse.indptr), shape=(3, 5)),
            Y,
            "a",
            "none",
        ),
    ]
    assert len({same, *(other.digest for other in others)}) == 1 + len(others)


def test_digest_of_arrays_tells_shapes_apart() -> None:
    a = np.arange(6.0)
    assert len({digest_of_arrays(part) for part in (a, a.reshape(2, 3), a.reshape(3, 2))}) == 3
    assert digest_of_arrays(a, a) != digest_of_arrays(np.concatenate([a, a]))


def test_digest_of_folder_follows_names_and_contents(tmp_path: Path) -> None:
    folder = in_folder(tmp_path / "mine")
    first = digest_of(folder)
    assert digest_of(in_folder(tmp_path / "copy")) == first, "wherever it lies"
    in_folder(folder, {"README": b"", "train/ant/.DS_Store": b""})
    assert digest_of(folder) == first, "what is not read does not count"
    (folder / "train/ant/9.png").rename(folder / "train/ant/0.png")
    renamed = digest_of(folder)
    in_folder(folder, {"train/ant/0.png": encoded(colours(99))})
    assert len({first, renamed, digest_of(folder)}) == 3


@pytest.mark.parametrize("kind", ["absent", "pipe", "nul\0", "x" * 300, "loop"])
def test_digest_of_what_cannot_be_read_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "pipe":
        os.mkfifo(path)
    if kind == "loop":
        path.symlink_to(path)
    with pytest.raises(DataError) as caught:
        digest_of(path)
    assert "\n" not in str(caught.value)


def test_large_file_is_read_once_in_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SMALL", 0)
    path = tmp_path / "large"
    path.write_bytes(b"content")
    first = digest_of(path)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_file_sum", lambda _: pytest.fail("read again"))
        assert digest_of(path) == first
    os.utime(path, (1, 1))
    stamp = stamp_of(path)
    assert digest_of(path) == first, "touched, but equal"
    assert stamp.mtime_ns == 10**9
    path.write_bytes(b"another content")
    assert digest_of(path) == hashlib.sha256(b"another content").hexdigest()


def test_digest_is_kept_in_the_cache_for_other_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SMALL", 0)
    cache, path = tmp_path / "cache", tmp_path / "large"
    path.write_bytes(b"content")
    first = digest_of(path, cache)
    (record,) = (cache / "digests").iterdir()
    assert json.loads(record.read_text()) == {
        "path": str(path),
        "stamp": list(stamp_of(path)),
        "sha256": first,
    }
    with monkeypatch.context() as patch:
        patch.setattr(module, "_known", {})  # as in another process
        patch.setattr(module, "_read", lambda *_: pytest.fail("read again"))
        assert digest_of(path, cache) == first
        assert digest_of(path) == first, "known now"
    path.write_bytes(b"another content")
    assert digest_of(path, cache) == hashlib.sha256(b"another content").hexdigest()


@pytest.mark.parametrize(
    "damage", [b"", b"{}", b"[]", b"\xff", b'{"path": "PATH", "stamp": STAMP, "sha256": "0"}', None]
)
def test_damaged_or_unwritable_record_of_a_digest_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes | None
) -> None:
    monkeypatch.setattr(module, "SMALL", 0)
    cache, path = tmp_path / "cache", tmp_path / "large"
    path.write_bytes(b"content")
    if damage is None:
        cache.touch()
    else:
        digest_of(path, cache)
        (record,) = (cache / "digests").iterdir()
        stamp = json.dumps(list(stamp_of(path))).encode()
        record.write_bytes(damage.replace(b"PATH", str(path).encode()).replace(b"STAMP", stamp))
    monkeypatch.setattr(module, "_known", {})
    assert digest_of(path, cache) == hashlib.sha256(b"content").hexdigest()


def test_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"content")
    monkeypatch.setattr(module, "_file_sum", lambda path: path.write_bytes(b"more content"))
    with pytest.raises(DataError, match=rf"^{path}: changed while it was read; run again$"):
        digest_of(path)


@pytest.mark.parametrize("change", ["content", "times", "name", "deleted", "added", "deep"])
def test_stamp_of_folder_sees_every_change(tmp_path: Path, change: str) -> None:
    folder = in_folder(tmp_path / "mine", FILES | {"train/ant/deep/1.png": b""})
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (1, 1))
    before, image = stamp_of(folder), folder / "train/ant/9.png"
    match change:
        case "content":
            image.write_bytes(bytes(len(FILES["train/ant/9.png"])))
        case "times":
            os.utime(image, (2, 2))
        case "name":
            image.rename(image.with_name("0.png"))
        case "deleted":
            image.unlink()
        case "added":
            (folder / "train/bee/0.png").touch()
        case "deep":
            (folder / "train/ant/deep/1.png").rename(folder / "train/ant/deep/2.png")
    assert stamp_of(folder).mtime_ns > before.mtime_ns == 10**9


def test_digest_of_images_depends_on_content_alone() -> None:
    pixels = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).reshape(2, 3, 4, 5)
    labels = torch.tensor([0, 1])

    def images(
        pixels: torch.Tensor, labels: torch.Tensor, n_classes: int = 2, name: str = "a"
    ) -> Images:
        sets = LabelledImages(pixels, labels)
        return Images(sets, sets, n_classes, name)

    same = images(pixels, labels).digest
    strided = pixels.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert images(strided, labels.clone(), name="b").digest == same
    others = [images(pixels + 1, labels), images(pixels, labels.flip(0)), images(pixels, labels, 3)]
    others.append(images(pixels.reshape(2, 3, 5, 4), labels))
    assert len({same, *(other.digest for other in others)}) == 1 + len(others)


def test_digest_of_subset_is_that_of_its_images() -> None:
    pixels = torch.arange(240, dtype=torch.uint8).reshape(8, 3, 2, 5)
    whole = LabelledImages(pixels, torch.arange(8) % 2, known_digest="known")
    subset = balanced_subset(whole, 4, 2, seed=0)
    assert subset.digest == LabelledImages(subset.pixels, subset.labels).digest
    assert subset.digest != balanced_subset(whole, 4, 2, seed=1).digest


def test_digest_is_found_without_heavy_imports() -> None:
    heavy = {"torch", "sklearn", "scipy", "pandas", "PIL"}
    code = f"import sys, shine_exp.data.io.digest; print(*{heavy} & set(sys.modules))"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert out.split() == []


@pytest.mark.parametrize(
    "name", [path.stem for path in (Path(data_room.__path__[0])).glob("[!_]*.py")]
)
def test_data_room_imports_slow_libraries_only_to_use_them(name: str) -> None:
    tree = ast.parse((Path(data_room.__path__[0]) / f"{name}.py").read_text())
    imported = {
        alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert not {module.partition(".")[0] for module in imported} & {
        "sklearn",
        "pooch",
        "requests",
        "PIL",
        "pandas",
    }
