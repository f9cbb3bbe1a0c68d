"""Freed memory is kept while torch is timed on the CPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import latency_tables
from latency_tables.engines.memory import can_keep_memory

# In a process of its own: the allocator does not go back to what it was. Prints how many bytes of
# 64 MiB, taken, written and freed, the process still holds. That much is over glibc's largest
# threshold (32 MiB), so by default it is given back wherever it lies; smaller results are given
# back by chance. Held memory, not page faults: their number depends on the size of pages.
_SIZE = 64 << 20
_SCRIPT = f"""
import resource, sys
from pathlib import Path
import torch
import latency_tables
from tests.latency_tables.nets import tiny

if sys.argv[1] == "measured":
    latency_tables.engine("torch", on="cpu").build(tiny().probe({{}})).run()

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

torch.ones(1)
before = held()
torch.ones({_SIZE} // 4)
print(held() - before)
"""


def held(when: str) -> int:
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, when], cwd=root, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not can_keep_memory(), reason="the allocator is not glibc's")
def test_memory_that_is_freed_is_not_fetched_anew():
    assert "freed memory kept" in str(latency_tables.engine("torch", on="cpu").device)
    assert held("plain") < _SIZE / 4
    assert held("measured") > _SIZE * 3 / 4
