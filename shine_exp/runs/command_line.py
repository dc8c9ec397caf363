"""The command that makes a run, by what its run.json says of it."""

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

GROUPS = ("problem", "data", "method")  # with their defaults, what a run is known by


def command_of(root: Path, info: Mapping[str, Any]) -> str:
    """By the options of a run below `root`, and what differs from their defaults."""
    groups = [f"{group}={info['choices'][group]}" for group in GROUPS]
    changed = [f"{key}={_value(value)}" for key, value in info["differs"].items()]
    words = ["shine-run", *groups, *changed, f"seed={info['seed']}"]
    return f"{shlex.join(words)}{elsewhere(root)}"


def elsewhere(root: Path) -> str:
    """The override that a command needs for runs that do not lie in the usual folder."""
    return "" if root == Path("results") else f" {shlex.quote(f'runtime.results={root}')}"


def _value(value: Any) -> str:
    """As Hydra reads it."""
    plain = isinstance(value, str) and re.fullmatch(r"[\w./-]+", value)
    return value if plain else json.dumps(value, ensure_ascii=False)
