"""Freed memory is kept while torch is timed on the CPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import latency_tables
from latency_tables.memory import can_keep_memory

# In a process of its own: the allocator does not go back to what it was. Prints the page faults of
# 20 rounds in which 24 MB are taken, written and freed.
_SCRIPT = """
import resource, sys
import torch
import latency_tables
from tests.latency_tables.nets import tiny

if sys.argv[1] == "measured":
    latency_tables.engine("torch", on="cpu").build(tiny().probe({})).run()

def use():
    return [torch.ones(3 << 19) for _ in range(4)]

use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(when: str) -> int:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, when], cwd=root, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not can_keep_memory(), reason="the allocator is not glibc's")
def test_memory_that_is_freed_is_not_fetched_anew():
    assert "freed memory kept" in str(latency_tables.engine("torch", on="cpu").device)
    each = 20 * 24 * 1024 // 4  # pages of all rounds
    assert faults("plain") > each / 2
    assert faults("measured") < each / 20
