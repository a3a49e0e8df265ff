"""How fast the graph core is: one command, one table, one JSON.

    python experiments/benchmarks/graph.py

Both sides of a comparison run in one process, in turn, and medians are compared; the
whole build runs in a process of its own for each size, so that its peak memory is its
own. squidpy and PyG's ClusterData are measured where they are installed.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
SPACING = 10.0
"""Microns between cells, roughly."""


def tissue(n: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """N cells in random order: (N, 2) microns and (N, 50) features of 30 cell types in 12 regions."""
    rng = np.random.default_rng(seed)
    side = SPACING * np.sqrt(n)
    pos = rng.random((n, 2)) * side
    centres = rng.random((12, 2)) * side
    region = np.empty(n, dtype=int)
    for block in np.array_split(np.arange(n), max(1, n // 100_000)):
        region[block] = ((pos[block, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    mixture = rng.dirichlet(np.full(30, 0.3), size=12).cumsum(axis=1)
    kind = (rng.random(n)[:, None] > mixture[region]).sum(axis=1).clip(0, 29)
    features = rng.normal(size=(30, 50))[kind] + 0.5 * rng.normal(size=(12, 50))[region]
    return pos, (features + rng.normal(scale=0.7, size=(n, 50))).astype(np.float32)


def timed(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def in_turn(sides: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each side; they take turns, so that a slow minute hits all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, call in sides.items():
            seconds[name].append(timed(call))
    return {name: statistics.median(values) for name, values in seconds.items()}


def searches(n: int, repeats: int) -> list[dict[str, Any]]:
    """Our builders beside the bare search they rest on, tree building included."""
    from scipy.spatial import cKDTree

    from stgraph.graph.builders import KNN, Radius
    from stgraph.graph.delaunay import Delaunay

    pos, _ = tissue(n)
    radius = SPACING * np.sqrt(15 / np.pi)
    small = tissue(2000)[0]
    for builder in (KNN(16), Radius(radius), Delaunay()):
        builder(small)  # compile
    rows = []
    for name, ours, bare, limit in (
        ("k-NN (16)", lambda: KNN(16)(pos), lambda: cKDTree(pos).query(pos, k=17, workers=-1), 1.5),
        (
            "radius (15)",
            lambda: Radius(radius)(pos),
            lambda: cKDTree(pos).query_pairs(radius, output_type="ndarray"),
            2.0,
        ),
    ):
        median = in_turn({"stgraph": ours, "bare": bare}, repeats)
        rows.append({"what": name, "cells": n, **median, "ratio": median["stgraph"] / median["bare"], "at most": limit})
    from scipy.spatial import Delaunay as Qhull

    median = in_turn({"stgraph": lambda: Delaunay()(pos), "bare": lambda: Qhull(pos)}, min(repeats, 3))
    rows.append({"what": "Delaunay", "cells": n, **median, "ratio": median["stgraph"] / median["bare"]})
    return rows


def whole_build(n: int) -> dict[str, Any]:
    """Graph, virtual cells on 50 features, METIS parts, and each part as HeteroData; run in a process of its own."""
    from anndata import AnnData

    import stgraph.graph.virtual_cells as virtual_cells
    from stgraph.data.parts import PartDataset
    from stgraph.graph.build import build_graph
    from stgraph.graph.builders import KNN
    from stgraph.graph.virtual_cells import JointLeiden
    from stgraph.partition.metis import Metis

    seconds: dict[str, float] = {}
    leiden = virtual_cells.leiden

    def watched(*args: Any, **kwargs: Any) -> Any:
        begin = time.perf_counter()
        out = leiden(*args, **kwargs)
        seconds["leiden"] = seconds.get("leiden", 0.0) + time.perf_counter() - begin
        return out

    def slice_of(size: int) -> AnnData:
        pos, x = tissue(size)
        adata = AnnData(obsm={"spatial": pos, "X_features": x})
        adata.uns["stgraph"] = {"unit": "um"}
        adata.obs["slice_id"] = "synthetic"
        return adata

    def build(adata: AnnData) -> tuple[int, int, int]:
        begin = time.perf_counter()
        graph = build_graph(adata, builder=KNN(16), virtual_cells=None, use_rep="X_features")
        seconds["graph"] = time.perf_counter() - begin

        begin = time.perf_counter()
        virtual = JointLeiden()(graph.x, graph.pos)
        seconds["virtual cells"] = time.perf_counter() - begin - seconds["leiden"]
        object.__setattr__(graph, "virtual", virtual)

        begin = time.perf_counter()
        dataset = PartDataset([graph], Metis(), num_hops=1)
        seconds["METIS parts"] = time.perf_counter() - begin

        begin = time.perf_counter()
        for i in range(len(dataset)):
            dataset[i]
        seconds["HeteroData of each part"] = time.perf_counter() - begin
        return len(graph.near.data), len(virtual), len(dataset)

    virtual_cells.leiden = watched  # type: ignore[assignment]
    build(slice_of(3000))  # compile
    adata = slice_of(n)
    seconds.clear()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    edges, num_virtual, parts = build(adata)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "cells": n,
        "edges": edges,
        "virtual cells": num_virtual,
        "parts": parts,
        "seconds": seconds,
        "total seconds": sum(seconds.values()),
        "microseconds a cell without Leiden": 1e6 * (sum(seconds.values()) - seconds["leiden"]) / n,
        "peak GiB": peak / 2**20,
        "peak GiB before": before / 2**20,
    }
