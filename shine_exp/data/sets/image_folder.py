"""Image files in a folder for each class, as they are or in a tar archive."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from shine_exp.data.image_cache import Decoding, Record, cached
from shine_exp.data.images import Images
from shine_exp.data.io.archive import tar_files, tar_names
from shine_exp.data.io.digest import digest_of
from shine_exp.data.io.files import InputFile, absolute
from shine_exp.data.io.image_names import (
    LAYOUT,
    SPLITS,
    Name,
    names_in_archive,
    names_in_folder,
    shown,
)
from shine_exp.data.io.parallel_decoding import decode_all
from shine_exp.errors import DataError, one_line

LARGEST_FILE = 1 << 28  # bytes of one image file

Place = tuple[str, int, int]  # split, position in it, label


def image_folder(
    path: InputFile, cache: str, subset: int | None, test_subset: int | None, seed: int
) -> Images:
    """Your own images of one size, as RGB, in `train/<class>/` and `test/<class>/`.

    `path` is a folder or a tar archive of one, and counts from the working folder. Classes are the
    sorted folders with an image in them, at any depth; images are sorted by class and name. An
    archive (plain, .gz, .xz or .bz2) may have one leading folder. `subset` and `test_subset` keep
    balanced subsets, as `Images.reduced` does. Raises `DataError` where a split is missing, a
    class is in one split only, a file is of another size or as `decoded` refuses it, or as
    `names_in_folder`, `names_in_archive`, `tar_names`, `cached` and `balanced_subset` do.
    """
    source = absolute(path)
    if not (source.is_dir() or source.is_file()):
        raise DataError(
            f"{source}: no such folder or file; "
            "data.path takes a folder of images or a tar archive of one"
        )
    folder = absolute(cache)
    digest = digest_of(source, folder)
    images = cached(folder, str(source), digest, lambda: _decoding(source, digest))
    return images.reduced(subset, test_subset, seed)


def _decoding(source: Path, digest: str) -> Decoding:
    if source.is_dir():
        names = names_in_folder(source)
        files = _files(source, names)
    else:
        root, names = names_in_archive(source, tar_names(source))
        files = _files_of_archive(source, root, set(names))
    classes, places = _places(source, names)
    sizes = {split: sum(place[0] == split for place in places.values()) for split in SPLITS}
    return Decoding(classes, sizes, _unchanged(_records(source, places, files), source, digest))


def _unchanged(records: Iterator[Record], source: Path, digest: str) -> Iterator[Record]:
    """Raises `DataError` in the end where the source is not what it was."""
    yield from records
    if digest_of(source) != digest:
        raise DataError(f"{source}: changed while it was read; run again")


def _places(source: Path, names: list[Name]) -> tuple[tuple[str, ...], dict[Name, Place]]:
    """The classes, and where each image belongs."""
    by_split = {split: [name for name in names if name[0] == split] for split in SPLITS}
    for split, members in by_split.items():
        if not members:
            raise DataError(f"{source}: has no images in {split}/; {LAYOUT}")
    found = {split: {name[1] for name in members} for split, members in by_split.items()}
    for split, other in (SPLITS, SPLITS[::-1]):
        if alone := sorted(found[split] - found[other]):
            fault = f"{shown((split, alone[0]))} is a class without images in {other}/"
            raise DataError(f"{source}: {fault}; {LAYOUT}")
    classes = sorted(found["train"])
    labels = {name: label for label, name in enumerate(classes)}
    return tuple(classes), {
        name: (split, index, labels[name[1]])
        for split, members in by_split.items()
        for index, name in enumerate(members)
    }


def _files(source: Path, names: list[Name]) -> Iterator[tuple[Name, bytes]]:
    for name in names:
        path = source.joinpath(*name)
        try:
            if path.stat().st_size > LARGEST_FILE:
                raise DataError(
                    f"{source}: {shown(name)} has more than {LARGEST_FILE} bytes; take it out"
                )
            yield name, path.read_bytes()
        except OSError as error:
            raise DataError(
                f"{source}: {shown(name)} cannot be read ({one_line(error)})"
            ) from error


def _files_of_archive(source: Path, root: Name, names: set[Name]) -> Iterator[tuple[Name, bytes]]:
    wanted = {(*root, *name) for name in names}
    for name, data in tar_files(source, wanted.__contains__, LARGEST_FILE):
        yield name[len(root) :], data


def _records(
    source: Path, places: dict[Name, Place], files: Iterable[tuple[Name, bytes]]
) -> Iterator[Record]:
    first: tuple[Name, tuple[int, ...]] | None = None
    for name, pixels in decode_all(files):
        if isinstance(pixels, str):
            raise DataError(f"{source}: {shown(name)} is no image that can be taken ({pixels})")
        first = first or (name, pixels.shape)
        if pixels.shape != first[1]:
            sizes = " and ".join(
                f"{shown(file)} {shape[1]} × {shape[0]}"
                for file, shape in (first, (name, pixels.shape))
            )
            raise DataError(
                f"{source}: images must have one size (width × height), but {sizes}; resize them"
            )
        yield Record(*places[name], pixels.transpose(2, 0, 1))
