"""Parts that cut few edges, by METIS."""

from dataclasses import dataclass

import numpy as np
import pymetis

from stgraph.errors import InputError
from stgraph.graph.slice_graph import SliceGraph
from stgraph.partition.base import Partition, count_parts


@dataclass(frozen=True)
class Metis:
    """METIS (Karypis and Kumar 1998) on the cell graph: balanced parts, few cut edges.

    Parameters
    ----------
    part_size
        Wanted number of cells in a part.
    random_state
        Seed of METIS.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.partition.metis import Metis
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=400, n_genes=60)[0])
    >>> Metis(part_size=100)(graph).num_parts
    4
    """

    part_size: int = 1000
    random_state: int = 0

    def __post_init__(self) -> None:
        if self.part_size < 1:
            raise InputError(f"Metis needs a positive part_size, not {self.part_size}.")

    def __call__(self, graph: SliceGraph) -> Partition:
        """Parts of one slice; see `Partitioner`."""
        num_parts = count_parts(len(graph), self.part_size)
        if num_parts == 1:
            return Partition(np.zeros(len(graph), dtype=np.int64), 1)
        # METIS is undefined on directed graphs; the union with the reverse is undirected.
        pattern = graph.near.copy()
        pattern.data = np.ones_like(pattern.data)
        pattern = (pattern + pattern.T).tocsr()
        _, membership = pymetis.part_graph(
            num_parts,
            pymetis.CSRAdjacency(pattern.indptr.astype(np.int64), pattern.indices.astype(np.int64)),
            options=pymetis.Options(seed=self.random_state),
        )
        return Partition.from_membership(np.asarray(membership))
