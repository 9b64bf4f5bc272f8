import subprocess
import sys

import pytest

LATE_STEPS = 10
STEP_FAULTS = f"""
import resource, sys, threading
import torch
from torch_bridge.memory import keep_freed_memory
if "keep" in sys.argv: assert keep_freed_memory()
def make():
    blocks = [torch.ones(20_000_000) for _ in range(2)]
def step():
    if "thread" not in sys.argv: return make()
    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
for _ in range(30): step()  # the heap grows until blocks of every alignment have their place
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({LATE_STEPS}): step()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize())
"""


def bytes_fetched_late(*arguments):
    command = [sys.executable, "-c", STEP_FAULTS, *arguments]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the setting exists in glibc alone")
@pytest.mark.parametrize("where", ["main", "thread"])
def test_freed_memory_is_used_again(where):
    assert bytes_fetched_late(where, "keep") < bytes_fetched_late(where) / 4
