"""How fast genes of cells and of their neighbours are read, beside the released code: one command, tables, JSON.

    python experiments/benchmarks/aido_tissue.py            # about ten minutes of two cores, 6 GiB
    python experiments/benchmarks/aido_tissue.py --quick    # k of 8 and 16, to try

Three sides. "released" is `padded_tissue.py`: dense vectors, padded batches, the whole last layer, held to the
published outputs where they are at hand. "packed" is `AIDOTissue`, which computes the same network; the two are held
to each other on the same weights before anything is timed. "graph" is `CellGraphGenes`, another network of the same
width and number of layers, which reads each cell once; its batches are cells of one place, as `SpatialBatches` gives
them, and, for comparison, cells of any place. A training step is batch from counts in memory, network, largest state of
the centre, six classes, cross-entropy and gradients, without the optimiser, which costs the same for any batch.

Data paths end where a network begins. Dense vectors are made from counts in memory, or, as the released loader does,
row by row from a file (it does so twice for each cell; here once); then values are computed, those above zero gathered.

Cells are synthetic, of log-normal numbers of genes among 19,264. Sides take turns in one process with the same threads;
where a neighbourhood has more than 5,000 tokens each runs once. Memory is what a step takes beyond model and data, in a
process of its own.
"""

import argparse
import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from anndata import AnnData, read_h5ad
from measuring import GIVING_BACK, extra_memory, in_own_process, in_turn, machine, table, timed
from numpy.typing import NDArray
from padded_tissue import GENES, PaddedTissue, Tokens, check_golden, dense_samples, process
from torch import nn

from stgraph.data.neighborhood_sequences import NeighborhoodSequences
from stgraph.data.spatial_batches import SpatialBatches
from stgraph.graph.neighborhoods import Neighborhoods, neighborhoods
from stgraph.models.aido_tissue import AIDOTissue
from stgraph.models.cell_graph_genes import CellGraphGenes
from stgraph.models.neighborhood_network import NeighborhoodNetwork
from stgraph.preprocess.ragged_tokens import RaggedTokens

HERE = Path(__file__).parent
GOLDEN = HERE.parents[2] / "shared" / "data" / "golden"
CELLS, CLASSES, TOGETHER = 4000, 6, 128
"""Cells of the tissue; classes of the task; centres of a batch of the graph side, and of our data path."""
BUDGET = 12_000
"""Tokens of a batch of the released and of the packed side; at least one centre."""
LONG = 5_000
"""Tokens of a neighbourhood above which one call of each side is enough."""
PROMISES = {
    "data path, times the released one, least of all settings": 1000.0,
    "training, packed, times released, least of all settings": 3.0,
    "training, graph, times released, least of all settings": 3.0,
    "training, graph, times released, k = 64": 10.0,
}
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Call = Callable[[], Any]


class Tissue(NamedTuple):
    """Counts as a matrix and as ragged tokens, and the k nearest cells of each."""

    counts: sp.csr_matrix
    cells: NeighborhoodSequences
    around: Neighborhoods
    pos: NDArray[np.float64]

    def places(self, size: int, number: int = 20) -> list[list[int]]:
        """Batches of cells that lie together, the same for every side."""
        sampler = SpatialBatches(self.cells, [self.pos], max_tokens=2**40, max_cells=size)
        return [batch.tolist() for batch in sampler.batches(0) if len(batch) == size][:number]


def tissue(genes: int, k: int) -> Tissue:
    """Cells on a jittered lattice, each with about so many of the genes of a panel."""
    rng = np.random.default_rng(0)
    side = int(np.ceil(CELLS**0.5))
    pos = 10.0 * (np.stack(np.divmod(np.arange(CELLS), side), axis=1) + rng.uniform(-0.4, 0.4, (CELLS, 2)))
    panel = np.sort(rng.choice(GENES, 4 * genes, replace=False))
    lengths = np.clip(rng.lognormal(np.log(genes) - 0.045, 0.3, CELLS).astype(int), 10, len(panel))
    tokens = np.concatenate([np.sort(rng.choice(panel, n, replace=False)) for n in lengths])
    indptr, counts = np.concatenate([[0], np.cumsum(lengths)]), 1.0 + rng.poisson(1.0, len(tokens)).astype(np.float32)
    ragged = RaggedTokens(tokens.astype(np.int32), indptr, counts.astype(np.float32))
    around = neighborhoods(pos, k)
    return Tissue(
        sp.csr_matrix((ragged.values, tokens, indptr), shape=(CELLS, GENES)),
        NeighborhoodSequences([ragged], [around], [panel], num_genes=GENES),
        around,
        pos,
    )


def in_a_row(batches: list[list[int]], step: Callable[[NDArray[np.int64]], Any]) -> Call:
    """Each call takes the next batch."""
    state = {"next": 0}

    def call() -> Any:
        state["next"] += 1
        return step(np.array(batches[state["next"] % len(batches)]))

    return call


def data_sides(of: Tissue, file: Path, few: int) -> dict[str, tuple[Call, int]]:
    """Cells to what a network reads, and how many cells a call takes."""
    AnnData(of.counts).write_h5ad(file)
    on_disk = read_h5ad(file, backed="r").X

    def ours(cells: NDArray[np.int64]) -> Any:
        batch = of.cells[cells]
        return batch, batch.pack()

    def theirs(counts: Any, cells: NDArray[np.int64]) -> Tokens:
        return process(dense_samples(counts, of.around.index, cells))

    places = of.places(few)
    return {
        "dense": (in_a_row(places, lambda cells: dense_samples(of.counts, of.around.index, cells)), few),
        "dense, processed": (in_a_row(places, lambda cells: theirs(of.counts, cells)), few),
        "released": (in_a_row(places, lambda cells: theirs(on_disk, cells)), few),
        "ours": (in_a_row(of.places(TOGETHER), ours), TOGETHER),
    }


def released_step(of: Tissue, size: int, dtype: torch.dtype, *, data: bool = True) -> Call:
    """A training step of the released network; its input is made in each step, or was made before."""
    torch.manual_seed(0)
    model = PaddedTissue().train()
    head = nn.Linear(model.position_embedding.embedding_dim, CLASSES)
    batches = of.places(size, number=20 if data else 1)
    made = None if data else process(dense_samples(of.counts, of.around.index, np.array(batches[0])))

    def step(cells: NDArray[np.int64]) -> float:
        tokens = process(dense_samples(of.counts, of.around.index, cells)) if made is None else made
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            return descend(head(model.embed(tokens)), model, head)

    return in_a_row(batches, step)


def our_step(of: Tissue, batches: list[list[int]], network: type[NeighborhoodNetwork], dtype: torch.dtype) -> Call:
    """A training step of one of our networks."""
    torch.manual_seed(0)
    model = network(GENES).train()  # type: ignore[call-arg]
    head = nn.Linear(model.out_channels, CLASSES)

    def step(cells: NDArray[np.int64]) -> float:
        batch = of.cells[cells]
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            return descend(head(model.embed(batch)), model, head)

    return in_a_row(batches, step)


def descend(logits: torch.Tensor, *modules: nn.Module) -> float:
    loss = F.cross_entropy(logits.float(), torch.arange(len(logits)) % CLASSES)
    loss.backward()
    for module in modules:
        module.zero_grad()
    return float(loss.detach())


def size_of(of: Tissue) -> int:
    """Centres of a batch of the released and the packed side."""
    return max(1, min(8, int(BUDGET / of.cells.lengths.mean())))


def training_sides(of: Tissue, dtype: torch.dtype) -> dict[str, tuple[Call, int]]:
    few = size_of(of)
    anywhere = np.random.default_rng(1).permutation(CELLS)[:80].reshape(10, -1).tolist()
    sides = {
        "released": (released_step(of, few, dtype), few),
        "released, input at hand": (released_step(of, few, dtype, data=False), few),
        "packed": (our_step(of, of.places(few), AIDOTissue, dtype), few),
        "graph": (our_step(of, of.places(TOGETHER), CellGraphGenes, dtype), TOGETHER),
        "graph, any place": (our_step(of, anywhere, CellGraphGenes, dtype), len(anywhere[0])),
    }
    if is_long(of):  # its input is a hundredth of the time
        del sides["released, input at hand"]
    return sides


def is_long(of: Tissue) -> bool:
    return bool(of.cells.lengths.mean() > LONG)


def compared(sides: dict[str, tuple[Call, int]], repeats: int) -> dict[str, float]:
    """Seconds a cell; of a single run of each where ``repeats`` is 0."""
    calls = {name: call for name, (call, _) in sides.items()}
    if repeats:
        seconds = {name: found["seconds"] for name, found in in_turn(calls, repeats).items()}
    else:
        seconds = {name: timed(call) for name, call in calls.items()}
    return {name: seconds[name] / cells for name, (_, cells) in sides.items()}


def data_row(genes: int, k: int, repeats: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        seconds = compared(data_sides(tissue(genes, k), Path(folder) / "cells.h5ad", few=2), repeats)
    return {
        "genes": genes,
        "k": k,
        **{f"{name}, us a cell": 1e6 * value for name, value in seconds.items()},
        **{f"times {name}": value / seconds["ours"] for name, value in seconds.items() if name != "ours"},
    }


def training_row(genes: int, k: int, dtype: str, repeats: int) -> dict[str, Any]:
    of = tissue(genes, k)
    seconds = compared(training_sides(of, TYPES[dtype]), 0 if is_long(of) else repeats)
    row = {
        "type": dtype,
        "genes": genes,
        "k": k,
        "tokens": float(of.cells.lengths.mean()),
        "distinct": of.cells[of.places(TOGETHER)[0]].unique.num_cells / TOGETHER,
        **{f"{name}, cells/s": 1 / value for name, value in seconds.items()},
    }
    for name in ("packed", "graph"):
        row[f"{name} / released"] = seconds["released"] / seconds[name]
        if "released, input at hand" in seconds:
            row[f"{name} / released, input at hand"] = seconds["released, input at hand"] / seconds[name]
    return row


def inference_row(genes: int, k: int, repeats: int) -> dict[str, Any]:
    """Embeddings of a whole slice by the graph side: every cell is summarised once, then centres are read."""
    of = tissue(genes, k)
    torch.manual_seed(0)
    model, rows = CellGraphGenes(GENES).eval(), torch.arange(TOGETHER)
    around = of.around
    itself = Neighborhoods(around.index[:, :1], around.distance[:, :1])
    alone = NeighborhoodSequences(of.cells.slices, [itself], [of.cells.panels[0].numpy()], num_genes=GENES)
    cells = alone[rows.numpy()].unique
    neighbors, distance = (torch.from_numpy(table[: len(rows), 1:]) for table in (around.index, around.distance))
    summaries = torch.randn(CELLS, model.num_summaries, model.hidden_channels)

    @torch.no_grad()
    def summarize() -> torch.Tensor:
        return model.summarize(cells)

    @torch.no_grad()
    def read() -> torch.Tensor:
        return model.embed_centers(cells, summaries, neighbors, distance.float())

    seconds = compared({"summarised": (summarize, TOGETHER), "read": (read, TOGETHER)}, repeats)
    found = {f"{name}, us a cell": 1e6 * value for name, value in seconds.items()}
    return {"genes": genes, "k": k, **found, "us a cell": sum(found.values())}


def memory_row(who: str, k: int, dtype: str) -> dict[str, Any]:
    """What a training step takes, of two centres or, where cells are shared, of many; 100 genes."""
    of = tissue(100, k)
    size = TOGETHER if who == "graph" else 2
    calls: dict[str, Callable[[], Call]] = {
        "released": lambda: released_step(of, size, TYPES[dtype], data=False),
        "packed": lambda: our_step(of, of.places(size), AIDOTissue, TYPES[dtype]),
        "graph": lambda: our_step(of, of.places(size), CellGraphGenes, TYPES[dtype]),
    }
    call = calls[who]()
    call()
    extra = extra_memory(call)
    tokens = np.mean([of.cells.lengths[batch].sum() for batch in of.places(size)])
    return {"side": who, "k": k, "MiB": extra / 2**20, "KiB a token": extra / 2**10 / tokens,
            "KiB a centre": extra / 2**10 / size}  # fmt: skip


def agreement() -> float:
    """Largest difference of an embedding between the released network and the packed one, of the same weights."""
    of = tissue(60, 4)
    torch.manual_seed(0)
    theirs, ours = PaddedTissue().eval(), AIDOTissue(GENES).eval()
    left = ours.load_state_dict(theirs.state_dict(), strict=False)
    if left.unexpected_keys or any(not key.startswith("decoder") for key in left.missing_keys):
        raise SystemExit(f"The two networks have other weights: {left}.")
    largest = 0.0
    for cell in range(3):
        batch = of.cells[cell]
        packed, unique = batch.pack(), batch.unique
        # The released network without its rounding up to a multiple of 16: padding is attended.
        tokens = Tokens(unique.values[packed.source][None], unique.tokens[packed.source][None], packed.slot[None])
        with torch.no_grad():
            largest = max(largest, float((ours.embed(batch) - theirs.embed(tokens)).abs().max()))
    if largest > 1e-4:
        raise SystemExit(f"The two sides differ by {largest}: there is nothing to compare.")
    return largest


def verdicts(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Each promise beside what was measured, in float32."""
    rows = [row for row in result["training"] if row["type"] == "float32"]
    measured = [min(row["times released"] for row in result["data path"])]
    measured += [min(row[f"{name} / released"] for row in rows) for name in ("packed", "graph")]
    measured += [row["graph / released"] for row in rows if row["k"] == 64][:1]
    return [
        {"what": what, "measured": value, "promised": f"at least {least:g}", "kept": bool(value >= least)}
        for (what, least), value in zip(PROMISES.items(), measured, strict=False)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--k", type=int, nargs="+", default=[8, 16, 32, 64], help="neighbours")
    parser.add_argument("--genes", type=int, nargs="+", default=[100, 300], help="genes of a cell")
    parser.add_argument("--types", nargs="+", default=["float32"], choices=list(TYPES))
    parser.add_argument("--repeats", type=int, default=3, help="turns of which the median is taken")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch")
    parser.add_argument("--quick", action="store_true", help="k of 8 and 16, 100 genes, a turn; writes nothing")
    parser.add_argument("--golden", type=Path, default=GOLDEN, help="folder of aido_tissue_3m_random.*")
    parser.add_argument("--out", type=Path, default=HERE / "aido_tissue.json", help="the JSON to write")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of other libraries, about themselves
    torch.set_num_threads(options.threads)
    if options.child:
        who, k, dtype = options.child
        print(json.dumps(memory_row(who, int(k), dtype)))
        return
    if options.quick:
        options.k, options.genes, options.repeats = [8, 16], [100], 1
    result: dict[str, Any] = {"machine": machine(), "largest difference, packed and released": agreement()}
    if (options.golden / "aido_tissue_3m_random.npz").exists():
        result["released side, largest difference from published outputs"] = check_golden(options.golden)
    else:
        print(f"{options.golden} has no published outputs: the released side was not checked.")
    print(result, flush=True)
    grid = [(genes, k) for genes in options.genes for k in options.k]
    result["data path"] = [data_row(*setting, options.repeats) for setting in grid]
    print("\nCounts to what a network reads\n" + table(result["data path"]), flush=True)
    result["training"] = []
    for dtype in options.types:
        for setting in grid:
            result["training"].append(training_row(*setting, dtype, options.repeats))
            print("\n" + table(result["training"][-1:]), flush=True)
    print("\nTraining\n" + table(result["training"]), flush=True)
    result["inference"] = [inference_row(*setting, options.repeats) for setting in grid]
    print("\nWhole slices, graph side\n" + table(result["inference"]), flush=True)
    result["memory"] = [
        in_own_process(__file__, "--threads", options.threads, "--child", who, k, dtype, allocator=GIVING_BACK)
        for dtype in options.types
        for who in ("released", "packed", "graph")
        for k in options.k
    ]
    print("\nMemory of a training step, 100 genes a cell\n" + table(result["memory"]), flush=True)
    result["promises"] = verdicts(result)
    print("\nPromised and measured\n" + table(result["promises"]))
    if not options.quick:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(f"\nwritten: {options.out}")


if __name__ == "__main__":
    main()
