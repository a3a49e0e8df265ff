"""What the benchmarks here share: sides in turn, memory, rates of the machine, tables."""

import ctypes
import datetime
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

SHORT = 0.3
"""Seconds for which a fast side is repeated within its turn."""


def in_turn(sides: dict[str, Callable[[], Any]], repeats: int) -> dict[str, dict[str, float]]:
    """Median seconds and number of runs of each side; they take turns, so that a slow minute hits all of them.

    Each runs once before that, uncounted. One that takes less than `SHORT` runs several times in all turns but one.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for call in sides.values():
        call()
    for _ in range(repeats):
        for name, call in sides.items():
            often = max(1, min(20, int(SHORT / min(seconds[name])))) if seconds[name] else 1
            seconds[name] += [timed(call) for _ in range(often)]
    return {name: {"seconds": statistics.median(values), "runs": len(values)} for name, values in seconds.items()}


def timed(call: Callable[[], Any]) -> float:
    gc.collect()
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def extra_memory(call: Callable[[], Any]) -> int:
    """Bytes by which a call raises what this process holds, at its highest; Linux only."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the highest so far
    before = _resident("VmRSS")
    call()
    return _resident("VmHWM") - before


def _resident(what: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(what))


AS_IT_COMES: dict[str, str] = {}
KEEPING = {"MALLOC_MMAP_THRESHOLD_": str(2**33), "MALLOC_TRIM_THRESHOLD_": str(2**35), "MALLOC_TOP_PAD_": str(2**28)}
"""glibc keeps what was freed for the next request: no page is asked of the system twice."""
GIVING_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""glibc gives back at once what was freed: what a process holds is what it uses."""


def in_own_process(script: str, *arguments: object, allocator: dict[str, str]) -> dict[str, Any]:
    """The JSON that a script prints last, or why there is none."""
    command = [sys.executable, script, *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ | allocator)
    if done.returncode:
        return {"skipped": (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def copy_rate(size: int) -> float:
    """Bytes read and written per second by ``memmove`` of blocks of ``size`` bytes, one in each thread of torch."""
    threads = torch.get_num_threads()
    blocks = [(np.ones(size, np.uint8), np.zeros(size, np.uint8)) for _ in range(threads)]
    times = max(1, int(2e9 / size))

    def copy(block: tuple[np.ndarray, np.ndarray]) -> None:
        source, target = (array.ctypes.data for array in block)
        for _ in range(times):
            ctypes.memmove(target, source, size)  # releases the GIL

    with ThreadPoolExecutor(threads) as pool:
        seconds = min(timed(lambda: list(pool.map(copy, blocks))) for _ in range(5))
    return 2 * size * times * threads / seconds


def gemm_rate(dtype: torch.dtype, size: int = 2048) -> float:
    """Operations per second of a square matrix product, the best of several."""
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    torch.mm(a, b)
    return 2 * size**3 / min(timed(lambda: torch.mm(a, b)) for _ in range(7))


def rates() -> dict[str, float]:
    """What this machine can do now: memory, cache and matrix products, with torch's threads."""
    return {
        "copy, 256 MiB a thread, GB/s": copy_rate(2**28) / 1e9,
        "copy, 256 KiB a thread, GB/s": copy_rate(2**18) / 1e9,
        "GEMM float32, GFLOP/s": gemm_rate(torch.float32) / 1e9,
        "GEMM bfloat16, GFLOP/s": gemm_rate(torch.bfloat16) / 1e9,
    }


def machine() -> dict[str, Any]:
    """Which machine, when, and versions."""
    info = Path("/proc/cpuinfo")
    named = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "processor": named[0] if named else platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of plain values as aligned text."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    cells = [keys] + [[_shown(row.get(key, "")) for key in keys] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(keys))]
    return "\n".join(
        "  ".join(value.ljust(w) for value, w in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
