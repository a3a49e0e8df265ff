"""The contract of a partitioner."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.sparse as sp

from stgraph._config import instantiate, to_config
from stgraph.graph.build import build_graph
from stgraph.graph.builders import KNN
from stgraph.graph.slice_graph import SliceGraph
from stgraph.io.synthetic import synthetic_tissue
from stgraph.partition.base import Partition, Partitioner


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

    def check(self, graph: SliceGraph, part_size: int) -> Partition:
        """Partition a slice and test all that holds of any."""
        partitioner = self.make(part_size)
        partition = partitioner(graph)
        check_partition(graph, partition, max_size=partitioner.max_size)
        # SToFM's tiles have the loosest bound; a partitioner whose parts are all tiny keeps any.
        assert partitioner.max_size <= 2 * part_size
        assert partition.num_parts <= 2 + 4 * len(graph) / part_size
        return partition

    @pytest.mark.parametrize("part_size", [7, 60, 100])
    def test_covers_all_cells_within_the_bound(self, graph: SliceGraph, part_size: int) -> None:
        """Parts are disjoint, cover the slice, none is empty and none too large."""
        assert self.check(graph, part_size).num_parts > 1

    def test_parts_of_one_cell(self, graph: SliceGraph) -> None:
        """The smallest parts there are."""
        partition = self.make(1)(graph)
        check_partition(graph, partition, max_size=self.make(1).max_size)
        assert partition.num_parts == len(graph)

    def test_one_part(self, graph: SliceGraph) -> None:
        """A slice smaller than a part stays whole."""
        assert self.make(1000)(graph).num_parts == 1

    def test_same_result_twice(self, graph: SliceGraph) -> None:
        """The same graph gives the same parts."""
        first, second = self.make(80)(graph), self.make(80)(graph)
        np.testing.assert_array_equal(first.membership, second.membership)

    def test_the_graph_is_not_changed(self, graph: SliceGraph) -> None:
        """Neither its positions nor its edges."""
        before = [graph.pos.copy(), *(a.copy() for a in (graph.near.indptr, graph.near.indices, graph.near.data))]
        self.make(80)(graph)
        after = [graph.pos, graph.near.indptr, graph.near.indices, graph.near.data]
        for old, new in zip(before, after, strict=True):
            np.testing.assert_array_equal(old, new)

    def test_isolated_cells(self, graph: SliceGraph) -> None:
        """Cells without neighbours are in a part too."""
        row = np.repeat(np.arange(400), np.diff(graph.near.indptr))
        self.check(_with_edges(graph, (row >= 50) & (graph.near.indices >= 50)), 60)

    def test_no_edges(self, graph: SliceGraph) -> None:
        """A graph may have none at all."""
        self.check(_with_edges(graph, np.zeros(graph.near.nnz, dtype=bool)), 60)

    def test_directed_graph(self, graph: SliceGraph) -> None:
        """A cell may see another that does not see it."""
        directed = KNN(3, symmetric=False)(graph.pos)
        self.check(SliceGraph(graph.slice_id, graph.x, graph.pos, directed, None, graph.spacing, graph.unit), 60)
        row = np.repeat(np.arange(400), np.diff(graph.near.indptr))
        self.check(_with_edges(graph, row < graph.near.indices), 60)

    def test_coincident_cells(self) -> None:
        """Ten places with thirty cells each, and all cells at one."""
        self.check(_slice_at(np.repeat(np.random.default_rng(0).uniform(0, 99, (10, 2)), 30, axis=0)), 40)
        self.check(_slice_at(np.full((90, 2), 5.0)), 40)

    @pytest.mark.parametrize("direction", [(1.0, 0.0), (0.0, 1.0), (1.0, -2.0)])
    def test_collinear_cells(self, direction: tuple[float, float]) -> None:
        """Cells on a line along an axis or across."""
        self.check(_slice_at(np.random.default_rng(0).uniform(0, 99, (200, 1)) * direction), 30)

    @pytest.mark.parametrize("scale", [1e-9, 1e12])
    @pytest.mark.parametrize("offset", [0.0, 1e4])
    def test_coordinates_of_any_magnitude(self, scale: float, offset: float) -> None:
        """Neither unit nor origin matters to what is promised."""
        self.check(_slice_at((np.random.default_rng(0).uniform(0, 99, (200, 2)) + offset) * scale), 30)

    @pytest.mark.parametrize("num_cells", [1, 2])
    @pytest.mark.parametrize("part_size", [1, 10])
    def test_one_and_two_cells(self, num_cells: int, part_size: int) -> None:
        """The smallest slices there are."""
        partition = self.check(_slice_at(np.array([[0.0, 0.0], [3.0, 4.0]])[:num_cells]), part_size)
        assert partition.num_parts == (num_cells if part_size == 1 else 1)

    def test_config(self, graph: SliceGraph) -> None:
        """The config of a partitioner makes the same partitioner."""
        partitioner = self.make(70)
        again = instantiate(to_config(partitioner))
        assert to_config(again) == to_config(partitioner)
        np.testing.assert_array_equal(again(graph).membership, partitioner(graph).membership)


def check_partition(graph: SliceGraph, partition: Partition, *, max_size: int) -> None:
    """Test that parts cover all cells of a graph once, and that none is empty or too large.

    Parameters
    ----------
    graph
        The graph.
    partition
        Its partition.
    max_size
        Most cells a part may have.
    """
    assert partition.membership.shape == (len(graph),)
    assert partition.membership.dtype == np.int64
    together = np.sort(np.concatenate([partition.cells(p) for p in range(partition.num_parts)]))
    np.testing.assert_array_equal(together, np.arange(len(graph)))
    sizes = np.bincount(partition.membership, minlength=partition.num_parts)
    assert len(sizes) == partition.num_parts
    assert sizes.min() > 0
    assert sizes.max() <= max_size


def _with_edges(graph: SliceGraph, keep: np.ndarray) -> SliceGraph:
    """The same cells with some of the edges; zero lengths stay edges."""
    near = graph.near
    row = np.repeat(np.arange(len(graph)), np.diff(near.indptr))[keep]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(graph)))])
    fewer = sp.csr_matrix((near.data[keep], near.indices[keep], indptr), shape=near.shape)
    return SliceGraph(graph.slice_id, graph.x, graph.pos, fewer, None, graph.spacing, graph.unit)


def _slice_at(pos: np.ndarray) -> SliceGraph:
    """Cells at these places, each with its six nearest as neighbours."""
    near = KNN(min(6, len(pos) - 1))(pos) if len(pos) > 1 else sp.csr_matrix((1, 1))
    return SliceGraph("slice", np.zeros((len(pos), 1), dtype=np.float32), pos, near, None, 1.0, "unknown")
