"""A small slice of scripts/chaos.py: kills, interrupts and damages at random moments."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "chaos.py"


@pytest.mark.slow
def test_chaos_finds_nothing_wrong(tmp_path: Path) -> None:
    counts = ["--kills", "2", "--interrupts", "2", "--damages", "4"]
    command = [sys.executable, str(SCRIPT), *counts, "--keep", str(tmp_path / "runs")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith("8 trials, 0 wrong\n")
