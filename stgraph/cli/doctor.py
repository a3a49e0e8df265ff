"""What ``stgraph doctor`` tells: which backends of edge attention run here, how fast, and which one is taken."""

import json
import math
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, get_args

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import stgraph
from stgraph.graph.builders import KNN
from stgraph.nn.edge_attention import EdgeGraph, edge_attention
from stgraph.nn.edge_attention.backends import Backend, backend_for, missing

HEADS, CHANNELS, NEIGHBORS, PART = 8, 32, 16, 1000
"""Of what is measured; the dense backend has parts of so many cells, and four of them at most."""

_SECONDS = 1.2
"""A backend is measured again until it had so many."""

_EXTRAS = {"dgl": "pip install 'stgraph[dgl]'", "torch_scatter": "pip install 'stgraph[native]'"}


@dataclass(frozen=True)
class Diagnosis:
    """What was found of a backend.

    Attributes
    ----------
    backend
        Its name.
    available
        Whether it runs here.
    reason
        Why not, or why it was not measured; empty otherwise.
    device
        Where it was measured, ``"cpu"`` or ``"cuda"``; empty if it was not.
    cells_per_second
        Forward and backward pass together, float32; None if it was not measured.
    ratio
        To the backend ``"reference"``.
    """

    backend: str
    available: bool
    reason: str = ""
    device: str = ""
    cells_per_second: float | None = None
    ratio: float | None = None


def run_doctor(*, cells: int, as_json: bool) -> None:
    """Measure every backend and print a table, or JSON, on standard output.

    Parameters
    ----------
    cells
        N of the graph to measure with.
    as_json
        Whether a program reads it.
    """
    near = neighbor_graph(cells)
    every = EdgeGraph.complete([2], torch.zeros(4), torch.zeros(4, dtype=torch.long))
    taken = {"edges": backend_for(torch.float32, _on(near)), "all pairs": backend_for(torch.float32, _on(every))}
    found: list[Diagnosis] = []
    names: list[Backend] = [name for name in get_args(Backend) if name != "auto"]
    for backend in names:
        with Console(stderr=True).status(f"measuring {backend}"):
            found.append(diagnose(backend, near, next((d for d in found if d.backend == "reference"), None)))
    if as_json:
        report = {
            "machine": machine(),
            "auto": taken,
            "measured": {"cells": cells, "neighbors": _neighbors(cells), "heads": HEADS, "channels": CHANNELS},
            "backends": [asdict(diagnosis) for diagnosis in found],
        }
        print(json.dumps(report, indent=2))  # noqa: T201  for a program
        return
    _show(machine(), taken, found, cells)


def diagnose(backend: Backend, near: EdgeGraph, reference: Diagnosis | None) -> Diagnosis:
    """Whether a backend runs here, and how fast.

    Parameters
    ----------
    backend
        Name of one.
    near
        What to measure with; the dense backend gets as many cells in parts.
    reference
        What its speed is compared with; None for the reference itself.

    Returns
    -------
    Diagnosis
        Also of one that fails: with what it says.
    """
    lacking = missing(backend)
    if lacking:
        how = "".join(f": {_EXTRAS[name]}" for name in lacking if name in _EXTRAS)
        return Diagnosis(backend, available=False, reason=f"{' and '.join(lacking)} not installed{how}")
    if backend == "triton" and not torch.cuda.is_available():
        if os.environ.get("TRITON_INTERPRET") == "1":
            return Diagnosis(backend, available=True, reason="interpreted, for tests: not measured")
        return Diagnosis(backend, available=False, reason="needs CUDA, or TRITON_INTERPRET=1 for tests on the CPU")
    device = "cuda" if torch.cuda.is_available() and backend not in {"fused-cpu", "dgl"} else "cpu"
    try:
        if backend == "dense":
            _seconds(backend, _on(_parts(8, 4), device), 0.0)  # warms up
            graph = _on(_parts(min(near.num_nodes, 4 * PART), PART), device)
        else:
            _seconds(backend, _on(neighbor_graph(64), device), 0.0)
            graph = _on(near, device)
        speed = graph.num_nodes / _seconds(backend, graph, _SECONDS)
    except Exception as error:  # whatever is wrong with a package is what is asked for
        return Diagnosis(backend, available=False, reason=str(error).strip().partition("\n")[0] or repr(error))
    first = speed if reference is None else reference.cells_per_second
    ratio = None if first is None else speed / first
    return Diagnosis(backend, available=True, device=device, cells_per_second=speed, ratio=ratio)


def neighbor_graph(cells: int) -> EdgeGraph:
    """Cells on a jittered grid, row by row, and their nearest neighbours.

    Parameters
    ----------
    cells
        N, at least 2.

    Returns
    -------
    EdgeGraph
        With 16 neighbours, or all others if there are fewer.
    """
    side = math.ceil(math.sqrt(cells))
    grid = np.stack(np.divmod(np.arange(cells), side), axis=1)
    jitter = np.random.default_rng(0).uniform(-0.3, 0.3, grid.shape)
    near = KNN(_neighbors(cells), symmetric=False)((grid + jitter) * 10.0)
    row = torch.from_numpy(np.repeat(np.arange(cells), np.diff(near.indptr)))
    col, distance = torch.from_numpy(near.indices.astype(np.int64)), torch.from_numpy(near.data).float()
    return EdgeGraph.from_edges(cells, row, col, distance, torch.zeros_like(row))[0]


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux tells what a container may use
    return {
        "stgraph": stgraph.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": _processor(),
        "cores": os.cpu_count() if affinity is None else len(affinity(0)),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _seconds(backend: Backend, graph: EdgeGraph, budget: float) -> float:
    """Median seconds of a forward and a backward pass, of as many as fit the budget."""
    generator = torch.Generator().manual_seed(0)
    device = graph.col.device
    shapes = [(graph.num_nodes, HEADS, CHANNELS)] * 4 + [(graph.num_edges, HEADS)] * 2
    q, k, v, grad, bias, grad_logits = (torch.randn(s, generator=generator).to(device) for s in shapes)
    inputs = [t.requires_grad_() for t in (q, k, v, bias)]
    seconds: list[float] = []
    while not seconds or sum(seconds) + median(seconds) < budget:
        start = perf_counter()
        out, logits = edge_attention(q, k, v, bias, graph, return_logits=True, backend=backend)
        torch.autograd.grad([out, logits], inputs, [grad, grad_logits])
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(perf_counter() - start)
    return median(seconds)


def _parts(cells: int, size: int) -> EdgeGraph:
    sizes = [size] * (cells // size) or [cells]
    edges = sum(n * n for n in sizes)
    return EdgeGraph.complete(sizes, torch.zeros(edges), torch.zeros(edges, dtype=torch.long))


def _on(graph: EdgeGraph, device: str | None = None) -> EdgeGraph:
    """A graph on a device, by default on that of the machine."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    ptr, row, col = (t.to(device) for t in (graph.ptr, graph.row, graph.col))
    return EdgeGraph(ptr, row, col, graph.distance.to(device), graph.edge_type.to(device), graph.blocks)


def _neighbors(cells: int) -> int:
    return min(NEIGHBORS, cells - 1)


def _processor() -> str:
    info = Path("/proc/cpuinfo")  # platform has no names on Linux
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()} {platform.machine()}".strip()


def _show(about: dict[str, Any], taken: dict[str, str], found: list[Diagnosis], cells: int) -> None:
    console = Console()
    console.print(
        f"stgraph {about['stgraph']}, python {about['python']}, torch {about['torch']}\n"
        f"{about['processor']}, {about['cores']} cores, {about['threads']} threads of torch, "
        f"{about['cuda'] or 'no CUDA'}",
        markup=False,
        highlight=False,
    )
    table = Table(
        title="Backends of edge attention",
        caption=f"Forward and backward pass, float32: {cells:,} cells, {_neighbors(cells)} neighbours, {HEADS} heads "
        f"of {CHANNELS} channels, a bias; dense: all pairs of parts of {PART:,} cells.",
    )
    for column in ("backend", "runs", "on"):
        table.add_column(column, no_wrap=True)
    table.add_column("thousand\ncells/s", justify="right")
    table.add_column("times the\nreference", justify="right")
    table.add_column("remark", overflow="fold")
    for d in found:
        speed = "" if d.cells_per_second is None else f"{d.cells_per_second / 1000:,.1f}"
        ratio = "" if d.ratio is None else f"{d.ratio:.1f}"
        remark = ", ".join([*(f"auto takes it for {what}" for what, b in taken.items() if b == d.backend), d.reason])
        table.add_row(d.backend, "yes" if d.available else "no", d.device, speed, ratio, remark.strip(", "))
    console.print(table)
