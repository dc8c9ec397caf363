"""What a run read: recorded in run.json, and compared before the run is passed over or resumed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from shine_exp.data.io.digest import Stamp, digest_of, stamp_of
from shine_exp.data.io.files import names_input_file
from shine_exp.errors import DataError, UserError
from shine_exp.runs.run import INFO, damaged
from shine_exp.runs.validation import nodes, parameters

WAY_OUT = "move this run's folder away, or set runtime.results=FOLDER"


def record(config: DictConfig, digest: str | None) -> dict[str, Any]:
    """What run.json keeps of the data: their digest, and of each file its stamp and SHA-256."""
    files = {
        key: {"path": path, **stamp_of(path)._asdict(), "sha256": digest_of(path, _cache(config))}
        for key, path in input_files(config)
    }
    return {"digest": digest, "files": files}


def input_files(config: DictConfig) -> Iterator[tuple[str, str]]:
    """Dotted key and path of every parameter that is marked as an `InputFile`."""
    for prefix, node in nodes(config):
        for name, annotation in parameters(prefix, node).items():
            value = node.get(name) if names_input_file(annotation) else None
            if isinstance(value, str):
                yield f"{prefix}{name}", value
            elif isinstance(value, ListConfig):
                yield from ((f"{prefix}{name}[{i}]", path) for i, path in enumerate(value))


def refuse_other_files(folder: Path, info: dict[str, Any], config: DictConfig) -> bool:
    """Whether the run's files are recorded.

    Raises `UserError` where one that is there now holds something else.

    By its stamp, and by its content where that differs. Nothing is loaded for it.
    """
    for key, known in _recorded(folder, info).get("files", {}).items():
        path = OmegaConf.select(config, key)
        try:
            if path is None or stamp_of(path) == Stamp(*(known[name] for name in Stamp._fields)):
                continue
        except DataError:
            continue  # gone, which is no matter to a run that is done
        if digest_of(path, _cache(config)) != known["sha256"]:
            raise UserError(
                f"{folder}: was made with other data than {key}={path} now holds; {WAY_OUT}"
            )
    return "data" in info


def refuse_other_data(folder: Path, info: dict[str, Any], now: dict[str, Any]) -> None:
    """Raises `UserError` where a run that is to go on was started with other files or data."""
    known = _recorded(folder, info)
    for key, file in now["files"].items():
        if key in known.get("files", {}) and known["files"][key]["sha256"] != file["sha256"]:
            now_holds = f"{key}={file['path']} now holds"
            raise UserError(f"{folder}: was started with other data than {now_holds}; {WAY_OUT}")
    if known.get("digest") not in (None, now["digest"]):
        raise UserError(f"{folder}: was started with other data than are loaded now; {WAY_OUT}")


def _recorded(folder: Path, info: dict[str, Any]) -> dict[str, Any]:
    """The record in run.json, which runs of earlier versions lack.

    Raises `UserError` where it is damaged.
    """
    known: Any = info.get("data", {})
    files = known.get("files") if isinstance(known, dict) else None
    if "data" in info and not (
        isinstance(files, dict)
        and all(
            isinstance(file, dict) and file.keys() >= {*Stamp._fields, "sha256"}
            for file in files.values()
        )
    ):
        raise damaged(folder / INFO, "its record of the data is incomplete")
    return dict(known)


def _cache(config: DictConfig) -> Path | None:
    """Where checksums of large files are kept: in the data's own cache, if there is one."""
    return Path(config.data.cache).expanduser() if config.data.get("cache") else None
