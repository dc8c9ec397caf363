"""Which files of a folder are images of a class."""

from pathlib import Path

SPLITS = ("train", "test")

Name = tuple[str, ...]  # the parts of a relative path


def names_in_folder(source: Path) -> list[Name]:
    """The files `train/<class>/<image>` and `test/<class>/<image>` of a folder, sorted; hidden ones are left out."""
    files = (file for split in SPLITS for file in (source / split).glob("*/*") if file.is_file())
    return sorted(file.relative_to(source).parts for file in files if not file.name.startswith("."))
