"""The contract of a partitioner."""

from collections.abc import Callable

import numpy as np
import pytest

from stgraph.graph.build import build_graph
from stgraph.graph.slice_graph import SliceGraph
from stgraph.io.synthetic import synthetic_tissue
from stgraph.partition.base import Partitioner


class PartitionerContract:
    """Inherit, and give ``make``: a partitioner that wants about so many cells in a part.

    Examples
    --------
    >>> from stgraph.partition.metis import Metis
    >>> from stgraph.testing.partitioners import PartitionerContract
    >>> class TestMetis(PartitionerContract):
    ...     make = staticmethod(lambda part_size: Metis(part_size))
    """

    make: Callable[[int], Partitioner]

    @pytest.fixture
    def graph(self) -> SliceGraph:
        """A slice of 400 cells."""
        return build_graph(synthetic_tissue(n_cells=400, n_genes=60)[0], virtual_cells=None)

    def test_covers_all_cells_once(self, graph: SliceGraph) -> None:
        """Parts are disjoint, cover the slice, and none is empty."""
        partition = self.make(100)(graph)
        together = np.sort(np.concatenate([partition.cells(p) for p in range(partition.num_parts)]))
        np.testing.assert_array_equal(together, np.arange(len(graph)))
        assert np.bincount(partition.membership, minlength=partition.num_parts).min() > 0

    def test_sizes(self, graph: SliceGraph) -> None:
        """No part is larger than one and a half times what was asked for."""
        sizes = np.bincount(self.make(100)(graph).membership)
        assert sizes.max() <= 150

    def test_one_part(self, graph: SliceGraph) -> None:
        """A slice smaller than a part stays whole."""
        assert self.make(1000)(graph).num_parts == 1

    def test_same_result_twice(self, graph: SliceGraph) -> None:
        """The same graph gives the same parts."""
        first, second = self.make(80)(graph), self.make(80)(graph)
        np.testing.assert_array_equal(first.membership, second.membership)

    def test_isolated_cells(self, graph: SliceGraph) -> None:
        """Cells without neighbours are in a part too."""
        bare = graph.near.copy()
        bare.data[:], keep = 1.0, np.arange(len(graph)) >= 50
        bare = bare.multiply(keep[:, None]).multiply(keep[None]).tocsr()
        bare.eliminate_zeros()
        lonely = SliceGraph(graph.slice_id, graph.x, graph.pos, bare, None, graph.spacing, graph.unit)
        assert len(self.make(100)(lonely).membership) == len(graph)
