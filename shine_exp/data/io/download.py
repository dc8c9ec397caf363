"""Files that are downloaded once, and checksums."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock
from tqdm import tqdm

from shine_exp import durable
from shine_exp.data.io.digest import digest_of
from shine_exp.errors import DataError, one_line

TIMEOUT = 30  # seconds without a byte
PATIENCE = 60  # seconds at less than SLOWEST
SLOWEST = 1000  # bytes per second
LARGEST = 1 << 30  # bytes
CHUNK = 1 << 16  # bytes

log = logging.getLogger(__name__)


def fetch(url: str, path: Path, checksum: str | None = None) -> bool:
    """Download `url` to `path` where no such file exists; whether it did so.

    Atomically, once for all processes, with a bar in terminals. `checksum` is "md5:…" or
    "sha256:…". Raises `DataError`, and leaves nothing, where the download fails, is slower than
    `SLOWEST` for `PATIENCE`, is larger than `LARGEST` or has another checksum.
    """
    if path.is_dir():
        raise DataError(f"{path}: is a folder, where the file of {url} belongs; move it away")
    if path.exists():
        return False
    import pooch  # slow to import

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if path.exists():
                return False
            _record(path).unlink(missing_ok=True)
            log.info("downloading %s to %s", url, path)
            pooch.get_logger().setLevel("WARNING")  # its advice on `known_hash` is for programmers
            pooch.retrieve(
                url, known_hash=checksum, path=path.parent, fname=path.name, downloader=_download
            )
    except OSError as error:
        raise download_failed(url, path, one_line(error, 100)) from error
    except ValueError as error:
        raise download_failed(url, path, "what came has another checksum") from error
    return True


def download_failed(url: str, path: Path, reason: str) -> DataError:
    """What was tried, where to put a copy by hand, and what runs without a download."""
    return DataError(
        f"cannot download {url} ({reason}); put a copy at {path}, or take data that needs no "
        "download, such as data=breast_cancer, for a network data=digits_images"
    )


def verify_sha256(path: Path, pinned: str | None) -> None:
    """Hold `path` to the SHA-256 that is `pinned`, or else to the one recorded beside it, if any.

    Raises `DataError` where the sums differ, or where the file or the record cannot be read.
    """
    record = _record(path)
    if pinned is None and not record.exists():
        return
    found = digest_of(path)
    try:
        expected = record.read_text().partition(" ")[0] if pinned is None else pinned.lower()
    except (OSError, ValueError) as error:
        raise DataError(f"{record}: cannot be read ({one_line(error)})") from error
    if found != expected:
        source, cure = (
            (f"{record.name} recorded", "set")
            if pinned is None
            else ("data.sha256 says", "correct")
        )
        raise DataError(
            f"{path}: its SHA-256 is {found}, not {expected} as {source}; "
            f"delete the file to download it again, or {cure} data.sha256"
        )


def record_sha256(path: Path) -> None:
    """Record beside `path` the SHA-256 that it is held to from now on, unless one is recorded.

    Raises `DataError` where that cannot be written.
    """
    record = _record(path)
    if record.exists():
        return
    found = digest_of(path)
    try:
        durable.write(record, f"{found}  {path.name}\n".encode())
    except OSError as error:
        raise DataError(
            f"{record}: cannot be written ({one_line(error)}); set data.sha256={found}"
        ) from error


def _record(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _download(url: str, file: str, _: Any) -> None:
    """In place of Pooch's own, which waits for a full chunk however slowly it comes."""
    import requests  # slow to import
    from urllib3.exceptions import HTTPError, ReadTimeoutError

    try:
        with (
            requests.get(url, stream=True, timeout=TIMEOUT) as response,
            open(file, "wb") as target,
        ):
            response.raise_for_status()
            raw = response.raw
            chunks = iter(lambda: raw.read1(CHUNK, decode_content=True), b"")
            with tqdm(
                total=raw.length_remaining, unit="B", unit_scale=True, leave=False, disable=None
            ) as bar:
                for chunk in _in_time(chunks):
                    target.write(chunk)
                    bar.update(len(chunk))
    except ReadTimeoutError as error:
        raise TimeoutError(f"nothing came for {TIMEOUT} seconds") from error
    except HTTPError as error:
        raise OSError(str(error)) from error


def _in_time(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Raises `OSError` where they come too slowly, or too many of them."""
    size, since, n_since = 0, time.monotonic(), 0
    for chunk in chunks:
        yield chunk
        size += len(chunk)
        n_since += len(chunk)
        if size > LARGEST:
            raise OSError(f"it has more than {LARGEST} bytes")
        waited = time.monotonic() - since
        if waited < PATIENCE:
            continue
        if n_since < SLOWEST * waited:
            raise TimeoutError(f"{n_since} bytes in {waited:.0f} seconds: too slow")
        since, n_since = time.monotonic(), 0
