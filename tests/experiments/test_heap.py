"""Freed memory stays with the process, unless the user said otherwise."""

import subprocess
import sys

import pytest

AGAIN_AND_AGAIN = """
import ctypes, resource
from experiments.heap import keep_freed_memory
kept = keep_freed_memory()
size = 64 << 20
def once():
    block = bytearray(size)
    block[::4096] = b"x" * (size // 4096)
once()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    once()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _run(monkeypatch: pytest.MonkeyPatch, **settings: str) -> tuple[bool, int]:
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    words = subprocess.run(
        [sys.executable, "-c", AGAIN_AND_AGAIN], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    return words[0] == "True", int(words[1])


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_large_blocks_are_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, faults = _run(monkeypatch)
    untouched, faults_without = _run(monkeypatch, MALLOC_TRIM_THRESHOLD_="131072")
    assert not untouched
    assert faults_without > 10_000
    if kept:
        assert faults < 1_000
