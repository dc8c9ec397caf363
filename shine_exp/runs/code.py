"""The user's own code that a run was made with: known by its files, as its data are.

Of a problem, method or loop that is not ours, run.json holds the file that its `_target_` lies in,
by its path from where Python looks for modules, and its SHA-256. What that file imports is not
watched.
"""

import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from shine_exp.errors import UserError
from shine_exp.runs.inputs import WAY_OUT
from shine_exp.runs.run import CHECKPOINT, INFO, damaged

SEEN = "sha256_of_shine_exp"  # in a module's spec: what its file held when first asked for


def code_of(modules: Mapping[str, str]) -> dict[str, str]:
    """What run.json keeps of modules, given their files: path → SHA-256.

    Raises `UserError` where this process imported another content of a file: what it would compute
    with is not what the file holds.
    """
    found = {}
    for name, file in modules.items():
        if file.endswith(".py"):
            digest = sha256(Path(file).read_bytes()).hexdigest()
            # A module that is reloaded gets a new spec.
            spec = sys.modules[name].__spec__
            if spec is not None and vars(spec).setdefault(SEEN, digest) != digest:
                raise UserError(f"{file}: has changed since Python imported it; start Python anew")
            found[_path(name, Path(file))] = digest
    return found


def refuse_other_code(folder: Path, info: Mapping[str, Any]) -> list[str]:
    """Raises `UserError` where a file of the user's now holds other code than the run's.

    Nothing is imported for it, and a file that is gone is no matter. A run that failed in its
    first step has nothing that was made with the other code but its checkpoint of the start: that
    is taken away, and there is a line to tell.
    """
    known: Any = info.get("code", {})
    if not isinstance(known, dict):
        raise damaged(folder / INFO, "its record of the code is not a table")
    for path, digest in known.items():
        file = _found(path)
        if file is None or sha256(file.read_bytes()).hexdigest() == digest:
            continue
        other = f"with other code than {file} now holds"
        if not _failed_at_once(info):
            raise UserError(f"{folder}: was made {other}; {WAY_OUT}")
        (folder / CHECKPOINT).unlink(missing_ok=True)
        return [f"{folder}: failed in its first step {other}; begun anew"]
    return []


def _failed_at_once(info: Mapping[str, Any]) -> bool:
    starts = info.get("starts")
    last = starts[-1] if isinstance(starts, list) and starts else {}
    return info.get("status") == "failed" and isinstance(last, dict) and last.get("step") == 0


def _path(module: str, file: Path) -> str:
    """From where Python looks for modules: pkg/mine.py of pkg.mine, wherever that lies."""
    path = module.replace(".", "/")
    return f"{path}/__init__.py" if file.name == "__init__.py" else f"{path}.py"


def _found(path: str) -> Path | None:
    """The file that Python would import now."""
    files = (Path(folder) / path for folder in sys.path)
    return next((file for file in files if file.is_file()), None)
