"""run.json: what a run is, where it stands, and how each start of it has ended."""

import json
import os
import platform
import socket
import subprocess
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from shine_exp import durable
from shine_exp.acceleration import AUTO, Acceleration
from shine_exp.errors import UserError, one_line
from shine_exp.processes import processes
from shine_exp.runs.machine import job_id
from shine_exp.runs.run import INFO, damaged, read_info
from shine_exp.version import __version__

PROVENANCE = ("versions", "python", "commit", "host", "device", "threads")
EFFORT = ("step", "seconds_stopped")  # of each start alone
KILLED = "killed"  # a start that nothing was heard of again


class History:
    """Keeps run.json, for the process that holds the folder's lock.

    `about` is what stays from start to start. `starts` has an entry for each, the oldest first:
    when, where, by which process and versions, after which step, and how it ended. The top of the
    file repeats the status and the provenance of the last one.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.path = folder / INFO
        self.about = about
        self.starts = _earlier(folder)

    def start(
        self,
        device: str,
        threads: int,
        left: Mapping[str, Any],
        acceleration: Acceleration = AUTO,
    ) -> None:
        """A new entry, "running", of a process that goes on after what earlier ones have `left`."""
        self.starts.append(
            {
                "time": _now(),
                "status": "running",
                "after_step": left["step"],
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "job_id": job_id(),
                "log": log_file(),
                "device": device_name(device),
                "threads": threads,
                "processes": processes().n,
                **asdict(acceleration),
                "python": platform.python_version(),
                "versions": _versions(),
                "commit": commit(),
            }
        )
        self._write(left)

    def end(
        self,
        status: str,
        left: Mapping[str, Any],
        error: Exception | None = None,
        reason: str | None = None,
    ) -> None:
        """How this start ended, what it `left`, and why: by a `reason`, or an error.

        An error that is a bug has its traceback too.
        """
        entry = self.starts[-1]
        entry |= {"status": status, "ended": _now()}
        entry |= {name: left[name] for name in EFFORT if name in left}
        if reason is not None:
            entry["reason"] = reason
        if error is not None:
            entry["reason"] = one_line(error)
            if not isinstance(error, UserError | OSError):
                entry["traceback"] = [line.rstrip() for line in traceback.format_exception(error)]
        self._write(left)

    def _write(self, left: Mapping[str, Any]) -> None:
        last = self.starts[-1]
        info: dict[str, Any] = {name: last[name] for name in ("status", "reason") if name in last}
        place = {name: last[name] for name in PROVENANCE}
        of_run = {name: value for name, value in left.items() if name not in EFFORT}
        write_json(self.path, {**info, **self.about, **of_run, **place, "starts": self.starts})


def _earlier(folder: Path) -> list[dict[str, Any]]:
    """The starts before this one; one that is still "running" has not lived to say how it ended."""
    if not (folder / INFO).is_file():
        return []
    info = read_info(folder)
    only = {name: info[name] for name in ("status", *PROVENANCE) if name in info}
    starts = info.get("starts", [only])  # runs of before have had one, as far as they know
    if not isinstance(starts, list) or not all(isinstance(entry, dict) for entry in starts):
        raise damaged(folder / INFO, "its starts are not a list of tables")
    for entry in starts:
        if entry.get("status") == "running":
            entry["status"] = KILLED
    return starts


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a JSON file in one step: a reader sees the old one or the new one."""
    durable.write(path, (json.dumps(content, indent=2) + "\n").encode())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def log_file() -> str | None:
    """The file that this process prints its errors into, if it is one."""
    try:
        name = os.readlink("/proc/self/fd/2")
    except OSError:  # no /proc, or stderr is closed
        return None
    return name if Path(name).is_file() else None


def device_name(device: str) -> str:
    """PyTorch's name of the device, and of a GPU which one it is."""
    if device.startswith("cuda"):
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return device


@cache
def _versions() -> dict[str, str]:
    packages = ("torch", "numpy", "scipy", "scikit-learn")
    # Of our own the module knows it, which may run from a checkout that is not installed.
    return {"shine-exp": __version__, **{name: version(name) for name in packages}}


@cache
def commit() -> str | None:
    """The commit of the checkout that this module lies in, if it does."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
