"""Where a run goes on: the state of its loop, and the trace up to there, in one file.

A trace beside a checkpoint can lag it, or be cut, doubled or lost, and nothing in it says so. A
checkpoint holds the rows that it stands for, and a resumed run writes its trace anew from them.
"""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from shine_exp import durable
from shine_exp.errors import UserError, one_line
from shine_exp.runs.run import CHECKPOINT

DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Checkpoint:
    """A loop's `state` after a step, the `trace` and seconds up to there, and which run it is."""

    config: dict[str, Any]
    state: dict[str, Any]
    trace: str
    elapsed: float


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint in one step.

    `torch.load(path, weights_only=True)` is a dict of its fields.
    """
    buffer = io.BytesIO()  # torch.save tells of a full disk in many ways, a file in one
    torch.save(vars(checkpoint), buffer)
    durable.write(folder / CHECKPOINT, _sealed(buffer.getvalue()))


def load(folder: Path, device: str) -> Checkpoint | None:
    """The checkpoint in a folder, if there is one. Raises `UserError` for one that is damaged."""
    path = folder / CHECKPOINT
    try:
        archive = _unsealed(durable.read(path))
        return Checkpoint(**torch.load(io.BytesIO(archive), map_location=device, weights_only=True))
    except FileNotFoundError:
        return None
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise unusable(path, one_line(error)) from error


def unusable(path: Path, why: str) -> UserError:
    """The error for a checkpoint that a run cannot go on from."""
    then = "delete it to start the run anew"
    return UserError(f"{path}: not a checkpoint of this run ({why}); {then}")


def _sealed(archive: bytes) -> bytes:
    """With its SHA-256 as the ZIP archive's comment, at the end: torch.load sees no flipped bit."""
    empty, length = bytes(2), DIGEST_BYTES.to_bytes(2, "little")
    assert archive.endswith(empty), "an archive has no comment yet"
    return archive[:-2] + length + hashlib.sha256(archive).digest()


def _unsealed(content: bytes) -> bytes:
    """The archive as it was sealed. Raises `ValueError` where it is not."""
    archive = content[: -DIGEST_BYTES - 2] + bytes(2)
    if _sealed(archive) != content:
        raise ValueError("damaged, or of an earlier version")
    return archive
