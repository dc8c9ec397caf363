"""Page faults before and after, in a process of their own."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from shine_exp.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        several = [torch.zeros(2**21) for _ in range(6)]  # 48 MiB, more than the heap keeps by default
        del several
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
faults()
usual = faults()
keep_freed_memory()
faults()
print(usual, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_freed_blocks_are_used_again() -> None:
    out = subprocess.run([sys.executable, "-c", FAULTS], check=True, capture_output=True, text=True).stdout
    usual, kept = map(int, out.split())
    assert kept < usual / 5
