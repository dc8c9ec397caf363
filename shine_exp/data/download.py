"""Files that are downloaded once, and checksums."""

import logging
import os
import sys
from pathlib import Path
from uuid import uuid4

import pooch
from filelock import FileLock

from shine_exp.errors import DataError, one_line

log = logging.getLogger(__name__)


def fetch(url: str, path: Path) -> None:
    """Download `url` to `path` where no such file exists: atomically, once for all processes, with a bar in terminals.

    Raises `DataError` where the download fails.
    """
    if path.exists():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if path.exists():
                return
            _record(path).unlink(missing_ok=True)
            log.info("downloading %s to %s", url, path)
            pooch.get_logger().setLevel("WARNING")  # its advice on `known_hash` is for programmers
            downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty())
            pooch.retrieve(url, known_hash=None, path=path.parent, fname=path.name, downloader=downloader)
    except OSError as error:
        raise download_failed(url, path, error) from error


def download_failed(url: str, path: Path, error: Exception) -> DataError:
    """What was tried, where to put a copy by hand, and what runs without a download."""
    return DataError(
        f"cannot download {url} ({one_line(error, 60)}); put a copy at {path}, or take data that needs no download, "
        "such as data=breast_cancer, for a network data=digits_images"
    )


def verify_sha256(path: Path, pinned: str | None) -> None:
    """Hold `path` to the SHA-256 that is `pinned`, or else to the one recorded beside it when it was first seen.

    Raises `DataError` where the sums differ, or where the file cannot be read or its sum not be recorded.
    """
    record = _record(path)
    try:
        found = pooch.file_hash(str(path), alg="sha256")
        if pinned is None and not record.exists():
            _write_record(record, f"{found}  {path.name}\n", found)
        expected = record.read_text().partition(" ")[0] if pinned is None else pinned.lower()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({one_line(error)})") from error
    if found != expected:
        source, cure = (f"{record.name} recorded", "set") if pinned is None else ("data.sha256 says", "correct")
        raise DataError(
            f"{path}: its SHA-256 is {found}, not {expected} as {source}; "
            f"delete the file to download it again, or {cure} data.sha256"
        )


def _record(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _write_record(record: Path, text: str, found: str) -> None:
    temporary = record.with_name(f".{record.name}.{uuid4().hex}")
    try:
        temporary.write_text(text)
        os.replace(temporary, record)
    except OSError as error:
        raise DataError(f"{record}: cannot be written ({one_line(error)}); set data.sha256={found}") from error
