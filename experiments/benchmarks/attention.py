"""How fast edge attention is, forward and backward, beside what else a user could pick: one command, tables, JSON.

    python experiments/benchmarks/attention.py            # about half an hour
    python experiments/benchmarks/attention.py --quick    # small, to try

Every side gives outputs, logits and all gradients, which are compared with the reference before anything is timed;
sides take turns in one process, and the memory of each is taken in a process of its own.

Roofline. With W = H D numbers of s bytes for each node, E edges, float32 for what belongs to edges and heads, and
indices of 8 bytes, a pass that takes each array once moves, in bytes,

    forward    4 N W s + 8 N H +  8 E H +  8 E + 8 N     reads q, k, v, bias, col, ptr; writes out, logits, norms
    rows       4 N W s + 8 N H + 16 E H +  8 E + 8 N     reads k, v, grad, logits, grad of logits, col, ptr, norms;
                                                         writes grad of q and of scores (the bias), weights
    columns    4 N W s         +  8 E H + 16 E + 8 N     reads q, grad, both of the scores and weights, edges by
                                                         column, row, ptr; writes grad of k and of v

and each does 4 E W operations (a multiply-add counts two): 12 E W in all. Exponentials are not counted. That is what
memory must deliver: the compulsory traffic. But each edge reads two rows, k and v (forward, rows) or q and grad
(columns), so that 2 E W s takes the place of 2 N W s in what the caches must deliver: the gathered traffic. The time
cannot be less than compulsory traffic at the rate of memory, gathered traffic at the rate of a cache, or operations at
the rate of matrix products in float32, whichever is longest.
"""

import argparse
import json
import statistics
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attention_gpu
import attention_sides as sides
import torch
from attention_sides import Attend, Problem, problem, step
from measuring import (
    AS_IT_COMES,
    GIVING_BACK,
    KEEPING,
    extra_memory,
    in_own_process,
    in_turn,
    machine,
    rates,
    table,
)

HERE = Path(__file__).parent
HEADS, CHANNELS, NEIGHBORS, PART = 8, 32, 16, 1000
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TOLERANCE = {"float32": 1e-5, "bfloat16": 0.04}
"""Of the largest difference from the reference, over the largest number."""
SIDES: dict[str, Callable[[Problem], Attend]] = {
    "fused-cpu": sides.ours("fused-cpu"),
    "reference (PyG operations)": sides.ours("reference"),
    "PyG MessagePassing": sides.pyg,
    "PyG MessagePassing, sorted EdgeIndex": sides.pyg_sorted,
    "torch-scatter segments": sides.torch_scatter,
    "DGL": sides.dgl,
    "dense parts": sides.dense(PART, logits=True),
    "dense parts, SDPA, no logits": sides.dense(PART, logits=False),
}
PROMISES = {"PyG": 15.0, "DGL": 4.0, "dense": 5.0}
"""How many times as fast fused-cpu is as the fastest side whose name has this in it."""


def posed(name: str, dtype: str, cells: int) -> Problem:
    """The problem of a side: the dense ones see the edges within parts only, others than ours a bias in their type."""
    given = problem(cells, NEIGHBORS, HEADS, CHANNELS, DTYPES[dtype], part=PART if "dense" in name else 0)
    return given if name in ("fused-cpu", "reference (PyG operations)") else given.like_values()


def error(given: Problem, attend: Attend) -> float:
    """Largest difference from the reference over the largest number, of outputs, logits and gradients."""
    grads = given.grads
    if (found := step(given, attend))[1] is None:  # no logits, so no gradient of them
        given = Problem(given.graph, given.inputs, (grads[0], torch.zeros_like(grads[1])))
    exact = Problem(
        given.graph,
        tuple(t.detach().double().requires_grad_() for t in given.inputs),  # type: ignore[arg-type]
        tuple(t.double() for t in given.grads),  # type: ignore[arg-type]
    )
    true = step(exact, sides.ours("reference")(exact))
    return max(
        float((x.double() - y).abs().max() / y.abs().max()) for x, y in zip(found, true, strict=True) if x is not None
    )


def compared(cells: int, repeats: int) -> list[dict[str, Any]]:
    """Every side that can be had and is right: seconds of forward and backward."""
    rows = []
    for dtype in DTYPES:
        calls, told = {}, {}
        for name, prepare in SIDES.items():
            told[name] = {"type": dtype, "side": name}
            try:
                small = posed(name, dtype, 2 * PART)
                off = error(small, prepare(small))
            except Exception as met:  # other libraries raise anything
                told[name]["skipped"] = f"{type(met).__name__}: {met}".splitlines()[0][:120]
                continue
            told[name]["error"] = off
            if not off <= TOLERANCE[dtype]:
                raise ValueError(f"{name} in {dtype} is {off:.1e} from the reference: wrong, so it is not timed.")
            given = posed(name, dtype, cells)
            attend = prepare(given)
            calls[name] = lambda given=given, attend=attend: step(given, attend)
        for name, found in in_turn(calls, repeats).items():
            told[name] |= found | {"thousand cells/s": cells / found["seconds"] / 1e3}
        ours = told["fused-cpu"]["seconds"]
        for row in told.values():
            if "seconds" in row:
                row["fused-cpu is faster by"] = row["seconds"] / ours
        rows += list(told.values())
    return rows


def memory(name: str, dtype: str, cells: int) -> dict[str, Any]:
    """Extra memory of one step; and for ours what outputs, gradients and numbers per edge and head come to."""
    prepare = SIDES[name]
    small = posed(name, dtype, 2 * PART)
    step(small, prepare(small))  # compile and load
    given = posed(name, dtype, cells)
    attend = prepare(given)
    held: list[Any] = []
    extra = extra_memory(lambda: held.append(step(given, attend)))
    n, e = given.graph.num_nodes, given.graph.num_edges
    node, edge = n * HEADS * CHANNELS * given.inputs[0].element_size(), e * HEADS * 4
    # Output and three gradients; logits, gradient of the bias, weights; norms; edges by column and their pointers.
    bound = 4 * node + 3 * edge + 8 * n * HEADS + 8 * e + 8 * n
    inputs = 3 * node + edge
    return {
        "type": dtype,
        "side": name,
        "MiB": extra / 2**20,
        "bytes a cell": extra / cells,
        "outputs, gradients, numbers per edge, MiB": bound / 2**20,
        "of that": extra / bound,
        "of that and inputs": extra / (bound + inputs),
    }


def fused(given: Problem, repeats: int) -> dict[str, float]:
    """Seconds of fused-cpu, forward and backward."""
    attend = sides.ours("fused-cpu")(given)
    results = attend(*given.inputs)

    def backward() -> Any:
        return torch.autograd.grad(results, given.inputs, given.grads, retain_graph=True)

    found = in_turn({"forward": lambda: attend(*given.inputs), "backward": backward}, repeats)
    return {name: value["seconds"] for name, value in found.items()}


def scaling(sizes: list[int], repeats: int) -> list[dict[str, Any]]:
    """fused-cpu, one thing changed at a time."""
    cells = sizes[len(sizes) // 2]
    usual = {"cells": cells, "k": NEIGHBORS, "heads": HEADS, "channels": CHANNELS, "order": "hilbert"}
    changes: list[dict[str, Any]] = [
        *({"cells": n} for n in sizes),
        *({"cells": n, "order": "random"} for n in sizes),
        *({"k": k} for k in (8, 32, 64)),
        *({"heads": h, "channels": c} for h, c in ((1, 256), (4, 64), (16, 16), (8, 16), (8, 64))),
        {"type": "bfloat16"},
        {"threads": 1},
        {"threads": 1, "type": "bfloat16"},
    ]
    threads, rows = torch.get_num_threads(), []
    for change in changes:
        now = usual | {"type": "float32", "threads": threads} | change
        torch.set_num_threads(now["threads"])
        given = problem(now["cells"], now["k"], now["heads"], now["channels"], DTYPES[now["type"]], order=now["order"])
        seconds = sum(fused(given, repeats).values())
        rate = now["cells"] / seconds / 1e3
        each = 1e12 * seconds / (given.graph.num_edges * now["heads"] * now["channels"])
        rows.append(now | {"seconds": seconds, "thousand cells/s": rate, "ps an edge and channel": each})
        torch.set_num_threads(threads)
    return rows


def traffic(given: Problem) -> dict[str, dict[str, float]]:
    """Bytes and operations of each pass, as the module says."""
    n, e, h = given.graph.num_nodes, given.graph.num_edges, HEADS
    w, s = HEADS * CHANNELS, given.inputs[0].element_size()
    compulsory = {
        "forward": 4 * n * w * s + 8 * n * h + 8 * e * h + 8 * e + 8 * n,
        "rows": 4 * n * w * s + 8 * n * h + 16 * e * h + 8 * e + 8 * n,
        "columns": 4 * n * w * s + 8 * e * h + 16 * e + 8 * n,
    }
    gathers = 2 * (e - n) * w * s
    each = {name: {"bytes": b, "gathered": b + gathers, "operations": 4 * e * w} for name, b in compulsory.items()}
    back = {key: each["rows"][key] + each["columns"][key] for key in ("bytes", "gathered", "operations")}
    return {"forward": each["forward"], "backward": back}


def roofline(cells: int, repeats: int) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Rates of the machine before and after, and how far each pass of fused-cpu is from them."""
    before, rows = rates(), []
    seconds = {}
    for dtype, kind in DTYPES.items():
        given = problem(cells, NEIGHBORS, HEADS, CHANNELS, kind)
        seconds[dtype] = fused(given, repeats), traffic(given)
    after = rates()
    rate = {name: statistics.mean([before[name], after[name]]) for name in before}
    far, near, gemm = (1e9 * rate[name] for name in list(rate)[:3])
    for dtype, (measured, moved) in seconds.items():
        for name, count in moved.items():
            bounds = {
                "memory": count["bytes"] / far,
                "cache": count["gathered"] / near,
                "arithmetic": count["operations"] / gemm,
            }
            largest = max(bounds, key=lambda bound: bounds[bound])
            rows.append(
                {
                    "type": dtype,
                    "pass": name,
                    "MB": count["bytes"] / 1e6,
                    "MB gathered": count["gathered"] / 1e6,
                    "MFLOP": count["operations"] / 1e6,
                    "FLOP a byte": count["operations"] / count["bytes"],
                    "FLOP a byte gathered": count["operations"] / count["gathered"],
                    "ms": 1e3 * measured[name],
                    **{f"ms, {bound}": 1e3 * value for bound, value in bounds.items()},
                    "bound by": largest,
                    "share reached": bounds[largest] / measured[name],
                    "GB/s": count["bytes"] / measured[name] / 1e9,
                    "GFLOP/s": count["operations"] / measured[name] / 1e9,
                }
            )
    return rate, rows


def flex(cells: int, repeats: int) -> dict[str, Any]:
    """FlexAttention beside fused-cpu, forward only: on the CPU it has no backward pass."""
    with torch.no_grad():
        given = problem(cells, NEIGHBORS, HEADS, CHANNELS, torch.float32, part=PART)
        attend, ours = sides.flex(PART)(given), sides.ours("fused-cpu")(given)
        out, true = attend(*given.inputs)[0], ours(*given.inputs)[0]
        off = float((out - true).abs().max() / true.abs().max())
        if not off <= TOLERANCE["float32"]:
            raise ValueError(f"FlexAttention is {off:.1e} from fused-cpu.")
        calls = {"FlexAttention, parts": lambda: attend(*given.inputs), "fused-cpu": lambda: ours(*given.inputs)}
        found = in_turn(calls, repeats)
    rate = {name: cells / value["seconds"] / 1e3 for name, value in found.items()}
    return {**rate, "fused-cpu is faster by": rate["fused-cpu"] / rate["FlexAttention, parts"]}


def verdicts(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Each promise beside what was measured in float32."""
    rows = [row for row in result["sides"]["as it comes"] if row["type"] == "float32" and "seconds" in row]
    ours = next(row["seconds"] for row in rows if row["side"] == "fused-cpu")
    said = []

    def say(what: str, measured: float, promised: str, *, kept: bool) -> None:
        said.append({"what": what, "measured": measured, "promised": promised, "kept": kept})

    for name, least in PROMISES.items():
        if other := [row["seconds"] for row in rows if name in row["side"]]:
            found = min(other) / ours
            say(f"times as fast as the fastest {name}", found, f"at least {least:g}", kept=found >= least)
    for row in result["memory"]:
        if row.get("side") == "fused-cpu":
            what = f"extra memory over inputs, outputs, gradients, numbers per edge, {row['type']}"
            say(what, row["of that and inputs"], "at most 1", kept=row["of that and inputs"] <= 1)
    return said


def child(options: argparse.Namespace) -> Any:
    """What is measured in a process of its own."""
    torch.set_num_threads(options.threads)
    if options.child == "sides":
        return {"rows": compared(options.cells, options.repeats)}
    if options.child == "flex":
        return flex(options.cells, options.repeats)
    dtype, name = options.child.split(":", 1)
    return memory(name, dtype, options.cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=20_000, help="a multiple of 1000")
    parser.add_argument("--sizes", type=int, nargs="+", default=[5000, 20_000, 50_000, 200_000], help="for scaling")
    parser.add_argument("--repeats", type=int, default=5, help="turns of which the median is taken")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch")
    parser.add_argument("--quick", action="store_true", help="few cells, two turns")
    parser.add_argument("--out", type=Path, default=HERE / "attention.json", help="the JSON to write")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of other libraries, about themselves
    if options.child:
        print(json.dumps(child(options)))
        return
    if options.quick:
        options.cells, options.sizes, options.repeats = 4000, [2000, 4000], 2
    torch.set_num_threads(options.threads)

    def apart(what: str, allocator: dict[str, str]) -> dict[str, Any]:
        given = ("--cells", options.cells, "--repeats", options.repeats, "--threads", options.threads)
        return in_own_process(__file__, "--child", what, *given, allocator=allocator)

    setting = {"cells": options.cells, "k": NEIGHBORS, "heads": HEADS, "channels": CHANNELS}
    result: dict[str, Any] = {"machine": machine(), "setting": setting, "sides": {}}
    print(result["machine"], setting, flush=True)
    for name, allocator in (("as it comes", AS_IT_COMES), ("keeping what is freed", KEEPING)):
        found = apart("sides", allocator)
        if "rows" not in found:
            raise RuntimeError(found["skipped"])
        result["sides"][name] = found["rows"]
        print(f"\nForward and backward, glibc's allocator {name}\n" + table(found["rows"]), flush=True)
    weighed = list(SIDES) if not options.quick else ["fused-cpu", "PyG MessagePassing"]
    result["memory"] = [apart(f"{dtype}:{name}", GIVING_BACK) for dtype in DTYPES for name in weighed]
    print("\nExtra memory of one step, beyond its inputs\n" + table(result["memory"]), flush=True)
    result["flex"] = apart("flex", AS_IT_COMES)
    print(
        "\nFlexAttention on the CPU, forward only, thousand cells/s\n" + table([result["flex"]]),
        flush=True,
    )
    result["rates"], result["roofline"] = roofline(options.cells, options.repeats)
    print("\nRates of this machine\n" + table([result["rates"]]))
    print("\nRoofline of fused-cpu\n" + table(result["roofline"]), flush=True)
    result["scaling"] = scaling(options.sizes, options.repeats)
    print("\nfused-cpu, one thing changed at a time\n" + table(result["scaling"]), flush=True)
    result["gpu"] = attention_gpu.compared(options.repeats)
    print("\nGPU\n" + table(result["gpu"]))
    result["promises"] = verdicts(result)
    print("\nPromised and measured\n" + table(result["promises"]))
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten: {options.out}")


if __name__ == "__main__":
    main()
