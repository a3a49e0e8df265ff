"""How good a partition is, in numbers."""

from dataclasses import dataclass

import numpy as np

from stgraph._compiled import compiled
from stgraph.errors import InputError
from stgraph.graph.slice_graph import SliceGraph
from stgraph.partition.base import Partition


@dataclass(frozen=True)
class PartitionQuality:
    """Sizes of parts, and what is lost or repeated between them.

    Attributes
    ----------
    num_parts
        P.
    min_size, median_size, max_size
        Cells of a part.
    balance
        The largest part relative to the mean; 1 is even.
    cut_edges
        Entries of ``near`` between two parts; an edge both ways counts twice, as in
        `stgraph.graph.summary.summarize`.
    cut_share
        Their share of all edges, 0 to 1.
    boundary_share
        Share of the cells that see a cell of another part.
    halo_share
        Mean over parts of the cells in a halo of one hop, relative to the cells of the part:
        what is read twice.
    disconnected_parts
        Parts whose cells do not all reach each other within the part, along edges of either direction.
    """

    num_parts: int
    min_size: int
    median_size: float
    max_size: int
    balance: float
    cut_edges: int
    cut_share: float
    boundary_share: float
    halo_share: float
    disconnected_parts: int


def partition_quality(graph: SliceGraph, partition: Partition) -> PartitionQuality:
    """Measure a partition.

    Parameters
    ----------
    graph
        A slice graph.
    partition
        A partition of its cells.

    Returns
    -------
    PartitionQuality
        One number for each measure.

    Raises
    ------
    InputError
        If the partition is one of another number of cells.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.partition.metis import Metis
    >>> from stgraph.partition.quality import partition_quality
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=400, n_genes=60)[0])
    >>> quality = partition_quality(graph, Metis(part_size=100)(graph))
    >>> quality.num_parts, quality.cut_share < 0.3
    (4, True)
    """
    if len(partition.membership) != len(graph):
        raise InputError(f"The partition is one of {len(partition.membership)} cells, the graph has {len(graph)}.")
    sizes = partition.sizes
    # All at once in one kernel: whole-array expressions would hold several arrays over edges.
    order = np.argsort(partition.membership, kind="stable")
    cut, boundary, halo, pieces = _measure(graph.near.indptr, graph.near.indices, partition.membership, order, sizes)
    return PartitionQuality(
        num_parts=partition.num_parts,
        min_size=int(sizes.min()),
        median_size=float(np.median(sizes)),
        max_size=int(sizes.max()),
        balance=float(sizes.max() / sizes.mean()),
        cut_edges=int(cut),
        cut_share=cut / max(1, graph.near.nnz),
        boundary_share=boundary / len(graph),
        halo_share=float((halo / sizes).mean()),
        disconnected_parts=int((pieces > 1).sum()),
    )


@compiled
def _measure(indptr, indices, membership, order, sizes):  # type: ignore[no-untyped-def]
    """Cut edges, boundary cells, and for each part its halo and its connected pieces; cells come part by part."""
    seen_by = np.full(len(membership), -1, dtype=np.int64)
    root = np.arange(len(membership))
    halo = np.zeros(len(sizes), dtype=np.int64)
    pieces = sizes.copy()
    cut, boundary = 0, 0
    for cell in order:
        part, before = membership[cell], cut
        for edge in range(indptr[cell], indptr[cell + 1]):
            other = indices[edge]
            if membership[other] != part:
                cut += 1
                if seen_by[other] != part:
                    seen_by[other] = part
                    halo[part] += 1
            else:
                one, two = _find(root, cell), _find(root, other)
                if one != two:
                    root[max(one, two)] = min(one, two)
                    pieces[part] -= 1
        boundary += cut > before
    return cut, boundary, halo, pieces


@compiled
def _find(root, cell):  # type: ignore[no-untyped-def]
    """Representative of the piece of a cell, on a path that is halved on the way."""
    while root[cell] != cell:
        root[cell] = root[root[cell]]
        cell = root[cell]
    return cell
