"""Image files in a folder for each class, as they are or in a tar archive."""

import io
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from shine_exp.data.archive import Name, shown, tar_files, tar_names
from shine_exp.data.digest import InputFile
from shine_exp.data.image_cache import SPLITS, Decoding, Record, cached
from shine_exp.data.images import Images
from shine_exp.errors import DataError, one_line

LARGEST_FILE = 1 << 28  # bytes of one image file
LAYOUT = "expected are train/<class>/<image> and test/<class>/<image>"

Place = tuple[str, int, int]  # split, position in it, label


def image_folder(path: InputFile, cache: str, subset: int | None, test_subset: int | None, seed: int) -> Images:
    """Your own images of one size, as RGB, in `train/<class>/` and `test/<class>/` of a folder or of a tar archive.

    Classes are the sorted folders with an image in them; images are sorted by class and name. An archive (plain, .gz,
    .xz or .bz2) may have one leading folder. Hidden files and files at another depth are ignored. `subset` and
    `test_subset` keep balanced subsets, as `Images.reduced` does. Raises `DataError` where a split is missing, a class
    is in one split only, a file is no image or of another size, or as `tar_names`, `cached` and `balanced_subset` do.
    """
    source = Path(path).expanduser().resolve()
    if not (source.is_dir() or source.is_file()):
        raise DataError(f"{source}: no such folder or file; data.path takes a folder of images or a tar archive of one")
    in_folder = _folder_names(source) if source.is_dir() else None
    identity = _stamps(source, in_folder)
    images = cached(Path(cache).expanduser(), str(source), identity, lambda: _decoding(source, in_folder))
    return images.reduced(subset, test_subset, seed)


def _folder_names(source: Path) -> list[Name]:
    files = (file for split in SPLITS for file in (source / split).glob("*/*") if file.is_file())
    return sorted(file.relative_to(source).parts for file in files if not file.name.startswith("."))


def _stamps(source: Path, in_folder: list[Name] | None) -> list[object]:
    """Sizes and times of change: of all images in a folder, or of an archive."""
    try:
        if in_folder is None:
            return [str(source), *_stamp(source)]
        return [[*name, *_stamp(source.joinpath(*name))] for name in in_folder]
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({one_line(error)})") from error


def _stamp(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns


def _decoding(source: Path, in_folder: list[Name] | None) -> Decoding:
    names = _one_root(source, tar_names(source)) if in_folder is None else in_folder
    classes, places = _places(source, names)
    files = tar_files(source, places.__contains__, LARGEST_FILE) if in_folder is None else _files(source, names)
    sizes = {split: sum(place[0] == split for place in places.values()) for split in SPLITS}
    return Decoding(classes, sizes, _records(source, places, files))


def _one_root(source: Path, names: list[Name]) -> list[Name]:
    """The images in the top folder of an archive, or in its one leading folder."""
    shaped = [name for name in names if len(name) in (3, 4) and name[-3] in SPLITS and not name[-1].startswith(".")]
    top: list[Name] = [name for name in shaped if len(name) == 3]
    roots = sorted({name[0] for name in shaped if len(name) == 4})
    if not top and len(roots) > 1:
        raise DataError(
            f"{source}: has several leading folders, {shown((roots[0],))} and {shown((roots[1],))}; {LAYOUT}"
        )
    return top or shaped


def _places(source: Path, names: list[Name]) -> tuple[tuple[str, ...], dict[Name, Place]]:
    """The classes, and where each image belongs."""
    ordered = sorted(set(names), key=lambda name: name[-3:])
    by_split = {split: [name for name in ordered if name[-3] == split] for split in SPLITS}
    for split, members in by_split.items():
        if not members:
            raise DataError(f"{source}: has no images in {split}/; {LAYOUT}")
    found = {split: {name[-2] for name in members} for split, members in by_split.items()}
    for split, other in (SPLITS, SPLITS[::-1]):
        if alone := sorted(found[split] - found[other]):
            raise DataError(f"{source}: {shown((split, alone[0]))} is a class without images in {other}/; {LAYOUT}")
    classes = sorted(found["train"])
    labels = {name: label for label, name in enumerate(classes)}
    return tuple(classes), {
        name: (split, index, labels[name[-2]])
        for split, members in by_split.items()
        for index, name in enumerate(members)
    }


def _files(source: Path, names: list[Name]) -> Iterator[tuple[Name, bytes]]:
    for name in names:
        try:
            yield name, source.joinpath(*name).read_bytes()
        except OSError as error:
            raise DataError(f"{source}: {shown(name)} cannot be read ({one_line(error)})") from error


def _records(source: Path, places: dict[Name, Place], files: Iterable[tuple[Name, bytes]]) -> Iterator[Record]:
    first: tuple[Name, tuple[int, ...]] | None = None
    for name, data in files:
        try:
            pixels = _decoded(data)
        except Exception as error:  # on damaged bytes, decoders raise errors of every kind
            raise DataError(f"{source}: {shown(name)} is no image that can be taken ({one_line(error)})") from error
        first = first or (name, pixels.shape)
        if pixels.shape != first[1]:
            sizes = " and ".join(
                f"{shown(file)} {shape[1]} × {shape[0]}" for file, shape in (first, (name, pixels.shape))
            )
            raise DataError(f"{source}: images must have one size (width × height), but {sizes}; resize them")
        yield Record(*places[name], pixels.transpose(2, 0, 1))


def _decoded(data: bytes) -> np.ndarray:
    """Pixels (height, width, 3), uint8. Pillow's warning of a decompression bomb is an error here."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(data)) as image:
            if image.format == "EPS":
                raise ValueError("EPS is a program, not an image")
            if image.mode == "F" or image.mode.startswith("I"):
                raise ValueError("it has more than 8 bits a channel")
            return np.asarray(image.convert("RGB"))
