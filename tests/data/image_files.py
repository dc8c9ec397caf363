"""Small images of three classes, in a folder or in a tar archive."""

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from shine_exp.data.images import Images

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "tar.gz": gzip.compress,
    "tar.xz": lzma.compress,
    "tar.bz2": bz2.compress,
}
CLASSES = ["ant", "bee", "Cat"]  # sorted: Cat, ant, bee
Files = dict[str, bytes]


def encoded(pixels: np.ndarray, kind: str = "png") -> bytes:
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, kind)
    return packed.getvalue()


def colours(seed: int, height: int = 3, width: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


IMAGES = {
    f"{split}/{label}/{name}": colours(seed)
    for seed, (split, label, name) in enumerate(
        (split, label, f"{k}.png")
        for split, n in (("train", 4), ("test", 2))
        for label in CLASSES
        for k in (10, 9, 2, 1)[:n]
    )
}
FILES: Files = {name: encoded(pixels) for name, pixels in IMAGES.items()}


def in_folder(folder: Path, files: Files = FILES) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def tar_bytes(files: Files, root: str = "", more: list[tarfile.TarInfo] | None = None) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for member in more or []:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
        for name, content in files.items():
            member = tarfile.TarInfo(root + name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def in_tar(
    path: Path, files: Files = FILES, root: str = "", more: list[tarfile.TarInfo] | None = None
) -> Path:
    kind = path.name.partition(".")[2]
    path.write_bytes(COMPRESS[kind](tar_bytes(files, root, more)))
    return path


def is_the_data(images: Images) -> None:
    for split, part in (("train", images.train), ("test", images.test)):
        names = sorted(name for name in IMAGES if name.startswith(split))
        np.testing.assert_array_equal(
            part.pixels.numpy(), [IMAGES[name].transpose(2, 0, 1) for name in names]
        )
        assert part.labels.tolist() == [sorted(CLASSES).index(name.split("/")[1]) for name in names]
    assert (images.n_classes, images.shape) == (3, (3, 3, 5))
