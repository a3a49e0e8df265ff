"""How fast the graph core is: one command, a table, and JSON.

    python experiments/benchmarks/graph.py

Sides that are compared run in one process, in turn, and their medians are compared. A
whole build runs in a process of its own, so that its peak memory is its own. squidpy and
PyG's ClusterData are measured where they are installed, and named where they are not.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import scipy
import scipy.sparse as sp
import torch
from anndata import AnnData
from measuring import in_turn, table, timed
from scipy.spatial import Delaunay as Qhull
from scipy.spatial import cKDTree

from stgraph.data.corpus import build_corpus
from stgraph.data.parts import PartDataset
from stgraph.data.store import CorpusDataset
from stgraph.graph import virtual_cells
from stgraph.graph.build import build_graph
from stgraph.graph.builders import KNN, Radius
from stgraph.graph.delaunay import Delaunay
from stgraph.graph.virtual_cells import JointLeiden
from stgraph.partition.metis import Metis

HERE = Path(__file__).parent
SPACING = 10.0
"""Microns: N cells lie on a square of side SPACING x sqrt(N)."""
RADIUS = SPACING * np.sqrt(15 / np.pi)
"""About 15 neighbours."""
NEIGHBORS = 16

LIMITS = {
    "k-NN over bare query": 1.5,
    "radius over bare query_pairs": 2.0,
    "whole build, seconds": 300.0,
    "whole build, peak GiB": 6.0,
    "time a cell without Leiden, largest over the size before": 1.3,
    "cells a second from the store": 1e6,
}
"""What was promised; the last is a least, the others are mosts."""


def tissue(n: int) -> tuple[np.ndarray, np.ndarray]:
    """N cells in random order: (N, 2) microns, and (N, 50) features of 30 cell types in 12 regions."""
    rng = np.random.default_rng(0)
    side = SPACING * np.sqrt(n)
    pos = rng.random((n, 2)) * side
    region = cKDTree(rng.random((12, 2)) * side).query(pos)[1]
    mixture = rng.dirichlet(np.full(30, 0.3), size=12).cumsum(axis=1)
    kind = (rng.random(n)[:, None] > mixture[region]).sum(axis=1).clip(0, 29)
    features = rng.normal(size=(30, 50))[kind] + 0.5 * rng.normal(size=(12, 50))[region]
    return pos, (features + rng.normal(scale=0.7, size=(n, 50))).astype(np.float32)


def slice_of(n: int, *, counts: bool = False) -> AnnData:
    """The same as an AnnData in microns; with 100 counted genes a cell if asked."""
    pos, x = tissue(n)
    adata = AnnData(obsm={"spatial": pos, "X_features": x})
    if counts:
        rng = np.random.default_rng(1)
        gene = np.sort(rng.integers(0, 500, (n, 100)), axis=1).ravel()
        matrix = sp.csr_matrix((np.ones(len(gene), np.int32), gene, np.arange(0, len(gene) + 1, 100)), shape=(n, 500))
        matrix.sum_duplicates()
        adata = AnnData(X=matrix, obsm=dict(adata.obsm))
        adata.var_names = [f"g{i}" for i in range(500)]
    adata.uns["stgraph"] = {"unit": "um"}
    adata.obs["slice_id"] = "synthetic"
    return adata


def medians(sides: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each side, in turn."""
    return {name: found["seconds"] for name, found in in_turn(sides, repeats).items()}


def searches(n: int, repeats: int) -> Iterator[dict[str, Any]]:
    """Our builders beside the bare search they rest on, tree building included."""
    pos = tissue(n)[0]
    for builder in (KNN(NEIGHBORS), Radius(RADIUS), Delaunay()):
        builder(tissue(2000)[0])  # compile
    pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "k-NN over bare query": (
            lambda: KNN(NEIGHBORS)(pos),
            lambda: cKDTree(pos).query(pos, k=NEIGHBORS + 1, workers=-1),
        ),
        "radius over bare query_pairs": (
            lambda: Radius(RADIUS)(pos),
            lambda: cKDTree(pos).query_pairs(RADIUS, output_type="ndarray"),
        ),
        "Delaunay over bare Qhull": (lambda: Delaunay()(pos), lambda: Qhull(pos)),
    }
    for name, (ours, bare) in pairs.items():
        # Qhull's half minute at a million cells needs no five runs.
        median = medians({"ours": ours, "bare": bare}, repeats if name in LIMITS else min(repeats, 3))
        yield {"what": name, "cells": n, **median, "ratio": median["ours"] / median["bare"]}


def whole_build(n: int) -> dict[str, Any]:
    """Graph, virtual cells on 50 features, METIS parts, and every part as HeteroData."""
    seconds: dict[str, float] = {}
    leiden = virtual_cells.leiden

    def watched(*args: Any, **kwargs: Any) -> Any:
        begin = time.perf_counter()
        out = leiden(*args, **kwargs)
        seconds["Leiden"] = seconds.get("Leiden", 0.0) + time.perf_counter() - begin
        return out

    def build(adata: AnnData) -> dict[str, int]:
        begin = time.perf_counter()
        graph = build_graph(adata, builder=KNN(NEIGHBORS), virtual_cells=None, use_rep="X_features")
        seconds["graph"] = time.perf_counter() - begin

        begin = time.perf_counter()
        virtual = JointLeiden()(graph.x, graph.pos)
        seconds["virtual cells but Leiden"] = time.perf_counter() - begin - seconds["Leiden"]
        object.__setattr__(graph, "virtual", virtual)

        begin = time.perf_counter()
        dataset = PartDataset([graph], Metis(), num_hops=1)
        seconds["METIS parts"] = time.perf_counter() - begin

        begin = time.perf_counter()
        for i in range(len(dataset)):
            dataset[i]
        seconds["HeteroData of every part"] = time.perf_counter() - begin
        return {"edges": graph.near.nnz, "virtual cells": len(virtual), "parts": len(dataset)}

    virtual_cells.leiden = watched  # type: ignore[attr-defined]
    build(slice_of(3000))  # compile
    adata = slice_of(n)
    seconds.clear()
    sizes = build(adata)
    total = sum(seconds.values())
    return {
        "cells": n,
        **sizes,
        "seconds": seconds,
        "total": total,
        "us a cell": 1e6 * total / n,
        "us a cell without Leiden": 1e6 * (total - seconds["Leiden"]) / n,
        "share of Leiden": seconds["Leiden"] / total,
        "peak GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def store(n: int, repeats: int) -> Iterator[dict[str, Any]]:
    """Every part of a corpus of one slice, read as HeteroData; the pages are in memory, the checksums verified."""
    with tempfile.TemporaryDirectory() as folder:
        slice_of(n, counts=True).write_h5ad(f"{folder}/slice.h5ad")
        begin = time.perf_counter()
        build_corpus([f"{folder}/slice.h5ad"], f"{folder}/corpus", use_rep="X_features", builder=KNN(NEIGHBORS))
        built = time.perf_counter() - begin
        size = sum(file.stat().st_size for file in Path(folder, "corpus").rglob("*") if file.is_file())
        yield {
            "what": "corpus build",
            "cells": n,
            "seconds": built,
            "cells a second": n / built,
            "bytes a cell": size / n,
        }
        for what, options in {
            "cells and edges": {"num_hops": 0, "informs": False},
            "with one hop of halo": {"num_hops": 1, "informs": False},
            "with halo and counts": {"num_hops": 1, "informs": False, "counts": True},
            "with halo and all virtual-cell edges": {"num_hops": 1, "informs": True},
        }.items():
            dataset = CorpusDataset(f"{folder}/corpus", **options)

            def read(dataset: CorpusDataset = dataset) -> None:
                for i in range(len(dataset)):
                    dataset[i]

            first = timed(read)
            median = statistics.median(timed(read) for _ in range(repeats))
            yield {
                "what": f"read: {what}",
                "cells": n,
                "seconds": median,
                "cells a second": n / median,
                "cells a second, first time": n / first,
            }


def others(n: int, repeats: int) -> Iterator[dict[str, Any]]:
    """squidpy's neighbours and PyG's ClusterData beside ours, where they are installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import squidpy  # noqa: PLC0415  no dependency
    except ImportError as error:
        yield {"what": "squidpy", "skipped": f"not installed ({error})"}
    else:
        adata = slice_of(n)
        pos = adata.obsm["spatial"]
        find = squidpy.gr.spatial_neighbors
        for what, ours, theirs in (
            ("k-NN", lambda: KNN(NEIGHBORS, symmetric=False)(pos), {"n_neighs": NEIGHBORS}),
            ("radius", lambda: Radius(RADIUS)(pos), {"radius": RADIUS}),
            ("Delaunay", lambda: Delaunay()(pos), {"delaunay": True}),
        ):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                sides = {"ours": ours, "squidpy": lambda theirs=theirs: find(adata, coord_type="generic", **theirs)}
                median = medians(sides, repeats)
            yield {
                "what": f"{what}: squidpy {squidpy.__version__}",
                "cells": n,
                **median,
                "ratio": median["ours"] / median["squidpy"],
            }
    from torch_geometric.data import Data  # noqa: PLC0415
    from torch_geometric.loader import ClusterData  # noqa: PLC0415

    graph = build_graph(slice_of(n), builder=KNN(NEIGHBORS), virtual_cells=None, use_rep="X_features")
    row = np.repeat(np.arange(n), np.diff(graph.near.indptr))
    data = Data(
        x=torch.from_numpy(graph.x), edge_index=torch.from_numpy(np.stack([graph.near.indices, row]).astype(np.int64))
    )
    num_parts = max(2, n // 1000)

    def ours() -> None:
        dataset = PartDataset([graph], Metis(), num_hops=0, informs=False)
        for i in range(len(dataset)):
            dataset[i]

    def theirs() -> None:
        clusters = ClusterData(data, num_parts=num_parts, log=False)
        for i in range(len(clusters)):
            clusters[i]

    try:
        theirs()
    except (ImportError, RuntimeError) as error:
        yield {"what": "PyG ClusterData", "skipped": str(error).splitlines()[0]}
        return
    median = medians({"ours": ours, "ClusterData": theirs}, repeats)
    yield {
        "what": "METIS parts, read once: PyG ClusterData",
        "cells": n,
        **median,
        "ratio": median["ours"] / median["ClusterData"],
    }


def in_own_process(n: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--whole-build", str(n)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def verdicts(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Each promise beside what was measured at the largest size."""
    builds, largest = result["builds"], max(result["sizes"])
    search = {row["what"]: row["ratio"] for row in result["searches"] if row["cells"] == largest}
    measured = {
        "k-NN over bare query": search["k-NN over bare query"],
        "radius over bare query_pairs": search["radius over bare query_pairs"],
        "whole build, seconds": builds[-1]["total"],
        "whole build, peak GiB": builds[-1]["peak GiB"],
        "cells a second from the store": next(
            row["cells a second"] for row in result["store"] if row["what"] == "read: with one hop of halo"
        ),
    }
    if len(builds) > 1:
        last, before = builds[-1]["us a cell without Leiden"], builds[-2]["us a cell without Leiden"]
        measured["time a cell without Leiden, largest over the size before"] = last / before
    return [{"what": name, "measured": value, "promised": LIMITS[name]} for name, value in measured.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="numbers of cells")
    parser.add_argument("--repeats", type=int, default=5, help="runs of which the median is taken")
    parser.add_argument("--store-cells", type=int, default=200_000, help="cells of the corpus that is read")
    parser.add_argument("--other-cells", type=int, default=100_000, help="cells on which others are measured")
    parser.add_argument("--out", type=Path, default=HERE / "graph.json", help="the JSON to write")
    parser.add_argument("--whole-build", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.whole_build:
        print(json.dumps(whole_build(options.whole_build)))
        return
    sizes = sorted(options.sizes)
    result: dict[str, Any] = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "machine": platform.machine()},
        "versions": {m.__name__: m.__version__ for m in (np, scipy, anndata, torch)},
        "sizes": sizes,
    }
    result["searches"] = [row for n in sizes for row in searches(n, options.repeats)]
    print("\nNeighbour search, seconds, beside the bare search each rests on\n" + table(result["searches"]), flush=True)
    # Builds of the smaller sizes are repeated; one of a million cells takes minutes.
    runs = {n: [in_own_process(n) for _ in range(3 if n < 1_000_000 else 1)] for n in sizes}
    result["builds"] = [sorted(runs[n], key=lambda run: run["total"])[len(runs[n]) // 2] for n in sizes]
    flat = [{k: v for k, v in run.items() if k != "seconds"} | run["seconds"] for run in result["builds"]]
    print("\nWhole build, seconds\n" + table(flat), flush=True)
    result["store"] = list(store(options.store_cells, options.repeats))
    print("\nShard store, warm\n" + table(result["store"]), flush=True)
    result["others"] = list(others(options.other_cells, options.repeats))
    print("\nSide by side, seconds\n" + table(result["others"]), flush=True)
    result["promises"] = verdicts(result)
    print("\nPromised and measured\n" + table(result["promises"]))
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten: {options.out}")


if __name__ == "__main__":
    main()
