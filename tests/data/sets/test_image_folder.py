import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import COMPRESS, FILES, colours, encoded, in_folder, in_tar, is_the_data, tar_bytes

from shine_exp.data import image_cache
from shine_exp.data.images import Images, balanced_subset
from shine_exp.data.sets.image_folder import image_folder
from shine_exp.errors import DataError


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Images]:
    return lambda path, subset=None, seed=0: image_folder(
        str(path), str(tmp_path / "cache"), subset, None, seed
    )


def test_folder_is_sorted_by_class_and_name(tmp_path: Path, load: Callable[..., Images]) -> None:
    images = load(in_folder(tmp_path / "mine"))
    is_the_data(images)
    assert images.name == str(tmp_path / "mine")


@pytest.mark.parametrize("root", ["", "./", "cifar/", "./cifar/", "train/"])
@pytest.mark.parametrize("kind", COMPRESS)
def test_archive_gives_the_same(
    tmp_path: Path, load: Callable[..., Images], kind: str, root: str
) -> None:
    shuffled = dict(sorted(FILES.items(), key=lambda item: item[1]))
    is_the_data(load(in_tar(tmp_path / f"mine.{kind}", shuffled, root)))
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {f"mine.{kind}", "cache"}
    assert not list((tmp_path / "cache").rglob("*.png")), "nothing is extracted"


def test_compression_is_told_by_the_content(tmp_path: Path, load: Callable[..., Images]) -> None:
    path = tmp_path / "mine.tar"
    path.write_bytes(lzma.compress(tar_bytes(FILES)))
    is_the_data(load(path))


def test_only_regular_files_are_read(tmp_path: Path, load: Callable[..., Images]) -> None:
    def member(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.type = kind
        info.size = 1 if kind == tarfile.REGTYPE else 0
        return info

    kinds = (tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
    more = [member(f"train/ant/{kind.decode()}.png", kind) for kind in kinds]
    hidden = ("train/ant/.hidden", "train/ant/.cache/1.png", ".train/ant/1.png")
    more += [member(name) for name in (*hidden, "README", "train/list.txt")]
    more += [member("other/train/ant/e.png"), member("valid/ant/f.png")]
    is_the_data(load(in_tar(tmp_path / "mine.tar", more=more)))


def test_files_that_are_no_images_of_a_class_are_ignored(
    tmp_path: Path, load: Callable[..., Images]
) -> None:
    noise = dict.fromkeys(
        ("README", "train/list.txt", "train/ant/.DS_Store", "train/ant/.x/y.png", "v/ant/1.png"),
        b"",
    )
    folder = in_folder(tmp_path / "mine", FILES | noise)
    (folder / "train" / "empty").mkdir()
    is_the_data(load(folder))


def test_file_that_stands_twice_in_an_archive_counts_as_the_last(
    tmp_path: Path, load: Callable[..., Images]
) -> None:
    path, (name, content) = tmp_path / "mine.tar", next(iter(FILES.items()))
    path.write_bytes(tar_bytes({name: encoded(colours(99)), f"./{name}": content} | FILES))
    is_the_data(load(path))


@pytest.mark.parametrize("kind", ["png", "jpeg", "bmp", "gif", "webp", "tiff"])
def test_formats_and_grey_or_opaque_images_become_rgb(
    tmp_path: Path, load: Callable[..., Images], kind: str
) -> None:
    grey = np.full((3, 5), 90, np.uint8)
    files = {
        "train/a/1": encoded(np.full((3, 5, 3), 200, np.uint8), kind),
        "train/b/1": encoded(grey, kind),
        "test/a/1": encoded(np.dstack([grey, grey, grey, np.full_like(grey, 255)]), "png"),
        "test/b/1": encoded(grey, "png"),
    }
    images = load(in_folder(tmp_path / "mine", files))
    assert images.shape == (3, 3, 5)
    assert (images.train.pixels[0].int() - 200).abs().max() <= 2
    assert (images.train.pixels[1].int() - 90).abs().max() <= 2
    assert (images.test.pixels == 90).all()


def test_decodes_once_and_again_when_the_source_changes(
    tmp_path: Path, load: Callable[..., Images], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, path = in_folder(tmp_path / "mine"), in_tar(tmp_path / "mine.tar")
    for source in (folder, path):
        load(source)
    monkeypatch.setattr(image_cache, "_write", lambda *_: pytest.fail("decoded again"))
    for source in (folder, path):
        is_the_data(load(source))
    monkeypatch.undo()
    changed = FILES | {"train/ant/1.png": encoded(colours(99))}
    for source in (in_folder(folder, changed), in_tar(path, changed)):
        os.utime(source / "train/ant/1.png" if source == folder else source, (1, 1))
        np.testing.assert_array_equal(load(source).train.pixels[4], colours(99).transpose(2, 0, 1))


def test_same_content_elsewhere_is_the_same_source(
    tmp_path: Path, load: Callable[..., Images]
) -> None:
    for number in (1, 2):
        in_tar(in_folder(tmp_path / str(number), {"x": b""}) / "mine.tar")
        load(tmp_path / str(number) / "mine.tar")
        load(in_folder(tmp_path / str(number) / "mine"))
    assert len(list((tmp_path / "cache").glob("mine*/"))) == 2
    folder = tmp_path / "1" / "mine"
    (folder / "train/ant/9.png").rename(folder / "train/ant/0.png")
    assert len(load(folder).train.labels) == 12
    assert len(list((tmp_path / "cache").glob("mine*/"))) == 3


def test_paths_from_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    in_tar(tmp_path / "mine.tar")
    is_the_data(image_folder("~/mine.tar", "~/cache", None, None, 0))
    assert (tmp_path / "cache").is_dir()


def test_subset_is_balanced_and_the_test_set_whole(
    tmp_path: Path, load: Callable[..., Images]
) -> None:
    folder = in_folder(tmp_path / "mine")
    full, images = load(folder), load(folder, 6, 1)
    assert torch.equal(images.train.pixels, balanced_subset(full.train, 6, 3, seed=1).pixels)
    assert torch.bincount(images.train.labels).tolist() == [2, 2, 2]
    assert torch.equal(images.test.pixels, full.test.pixels)
    with pytest.raises(DataError, match=r"^data.subset=13: take from 3"):
        load(folder, 13)
