"""Many image files decoded, in their order, by all processors of this machine."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import joblib
import numpy as np

from shine_exp.data.io.image_decoding import decoded
from shine_exp.data.io.image_names import Name
from shine_exp.errors import one_line

File = tuple[Name, bytes]
WINDOW = 1 << 25  # bytes of files in memory at a time, or one larger file
FEW = 2048  # small files that are decoded before other processes have started
SHARES = 4  # of a window, for each process


def decode_all(files: Iterable[File]) -> Iterator[tuple[Name, np.ndarray | str]]:
    """Each name with its pixels as `decoded` gives them, or the line that says why there are none.

    `files` is read here, a window of it at a time: other processes do nothing but decode.
    """
    n_processes = joblib.cpu_count()
    with joblib.Parallel(n_jobs=n_processes, max_nbytes=None) as parallel:
        for window in _windows(files):
            names = [name for name, _ in window]
            contents = [content for _, content in window]
            if len(window) <= FEW and sum(map(len, contents)) < WINDOW:
                pixels: Iterable[np.ndarray | str] = map(_pixels_or_fault, contents)
            else:
                size = -(-len(contents) // (SHARES * n_processes))
                shares = (contents[i : i + size] for i in range(0, len(contents), size))
                pixels = chain.from_iterable(parallel(map(joblib.delayed(_decode_share), shares)))
            yield from zip(names, pixels, strict=True)


def _windows(files: Iterable[File]) -> Iterator[list[File]]:
    window: list[File] = []
    n_bytes = 0
    for file in files:
        window.append(file)
        n_bytes += len(file[1])
        if n_bytes >= WINDOW:
            yield window
            window, n_bytes = [], 0
    if window:
        yield window


def _decode_share(contents: Sequence[bytes]) -> list[np.ndarray | str]:
    return [_pixels_or_fault(content) for content in contents]


def _pixels_or_fault(content: bytes) -> np.ndarray | str:
    try:
        return decoded(content)
    except Exception as error:  # on damaged bytes, decoders raise errors of every kind
        return one_line(error)
