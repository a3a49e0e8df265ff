"""Edge attention on a GPU in bfloat16: Triton beside FlexAttention, dense attention and PyG. Not tried without one."""

import statistics
from collections.abc import Callable
from typing import Any

import attention_sides as sides
import torch
from attention_sides import Attend, Problem, problem, step

CELLS, NEIGHBORS, HEADS, CHANNELS, PART = 200_000, 16, 8, 32, 1000
SIDES: dict[str, Callable[[Problem], Attend]] = {
    "triton": sides.ours("triton"),
    "FlexAttention, parts": sides.flex(PART),
    "dense parts, SDPA, no logits": sides.dense(PART, logits=False),
    "PyG MessagePassing": sides.pyg,
    "PyG MessagePassing, sorted EdgeIndex": sides.pyg_sorted,
}


def compared(repeats: int) -> list[dict[str, Any]]:
    """Forward and backward of each side, or why there is none."""
    if not torch.cuda.is_available():
        return [{"skipped": "no GPU here: Triton, FlexAttention, dense attention and PyG were not measured on one"}]
    bandwidth, rows, calls = copy_bandwidth(), {}, {}
    for name, prepare in SIDES.items():
        parts = 0 if "PyG" in name or name == "triton" else PART
        given = problem(CELLS, NEIGHBORS, HEADS, CHANNELS, torch.bfloat16, part=parts).to("cuda")
        given = given if name == "triton" else given.like_values()
        try:
            attend = prepare(given)
            step(given, attend)  # compile
        except Exception as met:  # other libraries raise anything, out of memory among it
            rows[name] = {"side": name, "skipped": f"{type(met).__name__}: {met}".splitlines()[0][:120]}
            continue
        calls[name] = (given, attend)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(max(5, repeats)):
        for name, (given, attend) in calls.items():
            seconds[name].append(on_device(lambda given=given, attend=attend: step(given, attend)))
    for name, (given, attend) in calls.items():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(given, attend)
        median, n, e = statistics.median(seconds[name]), given.graph.num_nodes, given.graph.num_edges
        # Each array once, as attention.py counts it, in bfloat16.
        moved = 24 * n * HEADS * CHANNELS + 32 * e * HEADS + 32 * e + 16 * n * HEADS + 24 * n
        rows[name] = {
            "side": name,
            "ms": 1e3 * median,
            "million cells/s": n / median / 1e6,
            "million tokens (edges)/s": e / median / 1e6,
            "extra MiB": (torch.cuda.max_memory_allocated() - before) / 2**20,
            "GB/s of the copy rate": moved / median / bandwidth,
        }
    return [{**rows[name], "copy rate, GB/s": bandwidth / 1e9} for name in SIDES]


def on_device(call: Callable[[], Any]) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3


def copy_bandwidth() -> float:
    """Bytes read and written per second."""
    source = torch.ones(2**30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    target.copy_(source)
    return 2 * 2**30 / min(on_device(lambda: target.copy_(source)) for _ in range(5))
