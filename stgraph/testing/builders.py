"""The contract of a graph builder."""

from collections.abc import Callable

import numpy as np
import pytest

from stgraph.graph.builders import GraphBuilder


class GraphBuilderContract:
    """Inherit, and give ``make``: a builder that suits some hundred cells 10 microns apart.

    Examples
    --------
    >>> from stgraph.graph.builders import KNN
    >>> from stgraph.testing.builders import GraphBuilderContract
    >>> class TestKNN(GraphBuilderContract):
    ...     make = staticmethod(lambda: KNN(6))
    """

    make: Callable[[], GraphBuilder]

    @pytest.fixture
    def pos(self) -> np.ndarray:
        """(200, 2) positions."""
        return np.random.default_rng(0).uniform(0, 140, (200, 2))

    def test_edges_are_lengths(self, pos: np.ndarray) -> None:
        """Each entry is the distance of its cells, and no cell is its own neighbour."""
        near = self.make()(pos).tocoo()
        assert near.shape == (len(pos), len(pos))
        assert near.nnz > 0
        assert (near.row != near.col).all()
        np.testing.assert_allclose(near.data, np.linalg.norm(pos[near.row] - pos[near.col], axis=1))

    def test_rows_are_sorted_and_unique(self, pos: np.ndarray) -> None:
        """CSR in canonical form."""
        near = self.make()(pos)
        key = np.repeat(np.arange(len(pos)), np.diff(near.indptr)) * len(pos) + near.indices
        assert (np.diff(key) > 0).all()

    def test_permutation(self, pos: np.ndarray) -> None:
        """Permuted cells give the permuted graph."""
        order = np.random.default_rng(1).permutation(len(pos))
        near, permuted = self.make()(pos), self.make()(pos[order])
        assert (near[order][:, order] != permuted).nnz == 0

    def test_rigid_motion(self, pos: np.ndarray) -> None:
        """Moved, turned and mirrored cells have the same neighbours at the same distances."""
        turn = np.array([[0.6, -0.8], [0.8, 0.6]]) @ np.diag([1.0, -1.0])
        for cells in (pos, np.stack(np.meshgrid(np.arange(15.0), np.arange(15.0)), -1).reshape(-1, 2) * 10):
            near, moved = self.make()(cells), self.make()(cells @ turn.T + [1e4, -300.0])
            np.testing.assert_array_equal(near.indptr, moved.indptr)
            np.testing.assert_array_equal(near.indices, moved.indices)
            np.testing.assert_allclose(near.data, moved.data, rtol=1e-8)

    def test_coincident_cells_are_neighbours(self, pos: np.ndarray) -> None:
        """A distance of zero is a distance: coincident cells are joined by an explicit zero."""
        pos[1] = pos[0]
        near = self.make()(pos)
        assert 1 in near[0].indices
        assert 0 in near[1].indices
        assert (near.data == 0).sum() == 2
