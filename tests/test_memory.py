import subprocess
import sys

import pytest

STEP_FAULTS = """
import resource, sys
import torch
from torch_bridge.memory import keep_freed_memory
assert keep_freed_memory()
def step():
    blocks = [torch.ones(12_000_000) for _ in range(2)]
for _ in range(6): step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5): step()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the setting exists in glibc alone")
def test_freed_memory_is_used_again():
    out = subprocess.run([sys.executable, "-c", STEP_FAULTS], capture_output=True, text=True, check=True)
    fetched = int(out.stdout)
    assert fetched < 5 * 2 * 48_000_000 / 2  # without the setting every step fetches both blocks anew
