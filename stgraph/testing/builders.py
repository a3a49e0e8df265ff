"""The contract of a graph builder."""

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

from stgraph._config import instantiate, to_config
from stgraph.errors import InputError
from stgraph.graph.builders import GraphBuilder

_TURN = np.array([[0.6, -0.8], [0.8, 0.6]]) @ np.diag([1.0, -1.0])
"""Turns and mirrors."""


class GraphBuilderContract:
    """Inherit, and give ``make``: a builder that suits some hundred cells 10 microns apart.

    A builder that cannot take any positions overrides the fixtures ``pos`` and
    ``array``; one that gives directed edges sets ``symmetric = False``.

    Examples
    --------
    >>> from stgraph.graph.builders import KNN
    >>> from stgraph.testing.builders import GraphBuilderContract
    >>> class TestKNN(GraphBuilderContract):
    ...     make = staticmethod(lambda: KNN(6))
    """

    make: Callable[[], GraphBuilder]

    symmetric: ClassVar[bool] = True
    """Whether every edge has its reverse."""

    @pytest.fixture
    def pos(self) -> NDArray[np.float64]:
        """(200, 2) positions without order."""
        return np.random.default_rng(0).uniform(0, 140, (200, 2))

    @pytest.fixture
    def array(self) -> NDArray[np.float64]:
        """(225, 2) positions of an array, on which cells tie by the dozen."""
        return np.stack(np.meshgrid(np.arange(15.0), np.arange(15.0)), -1).reshape(-1, 2) * 10

    def test_edges_are_lengths(self, pos: NDArray[np.float64]) -> None:
        """Each entry is the distance of its cells, and no cell is its own neighbour."""
        near = self.make()(pos)
        assert near.nnz > 0
        _check_edges(near, pos)

    def test_rows_are_sorted_and_unique(self, pos: NDArray[np.float64]) -> None:
        """CSR in canonical form."""
        near = self.make()(pos)
        key = _rows(near) * len(pos) + near.indices
        assert (np.diff(key) > 0).all()

    def test_symmetric_to_the_bit(self, pos: NDArray[np.float64], array: NDArray[np.float64]) -> None:
        """An edge and its reverse have the same length."""
        if not self.symmetric:
            pytest.skip("edges are directed")
        for cells in (pos, array):
            near = self.make()(cells)
            _check_same(near, near.T.tocsr())

    def test_permutation(self, pos: NDArray[np.float64], array: NDArray[np.float64]) -> None:
        """Permuted cells give the permuted graph, to the bit."""
        for cells in (pos, array):
            order = np.random.default_rng(1).permutation(len(cells))
            near, permuted = self.make()(cells), self.make()(cells[order])
            _check_same(near[order][:, order].sorted_indices(), permuted)

    def test_rigid_motion(self, pos: NDArray[np.float64], array: NDArray[np.float64]) -> None:
        """Moved, turned and mirrored cells have the same neighbours at the same distances."""
        for cells in (pos, array):
            for offset in ([1e4, -300.0], [-1e6, 1e6]):
                _check_same(self.make()(cells), self.make()(cells @ _TURN.T + offset), rtol=1e-8)

    def test_scale(self, pos: NDArray[np.float64], array: NDArray[np.float64]) -> None:
        """Unless the builder counts in microns, the unit of the coordinates does not matter."""
        builder = self.make()
        if builder.in_microns:
            pytest.skip("counts in microns")
        for cells in (pos, array):
            for factor in (1e-6, 1e6):
                near = builder(cells)
                near.data *= factor
                _check_same(near, builder(cells * factor), rtol=1e-8)

    def test_coincident_cells_are_neighbours(self, pos: NDArray[np.float64]) -> None:
        """A distance of zero is a distance: coincident cells are joined by an explicit zero."""
        pos[1] = pos[0]
        near = self.make()(pos)
        assert 1 in near[0].indices
        assert 0 in near[1].indices
        assert (near.data == 0).sum() == 2

    def test_all_cells_coincide(self) -> None:
        """Then all edges are of length zero."""
        self._check_or_refused(np.full((12, 2), 7.3))

    def test_collinear_cells(self) -> None:
        """Cells on a line, straight or askew."""
        along = np.random.default_rng(2).uniform(0, 300, (40, 1))
        self._check_or_refused(along * [1.0, 0.0])
        self._check_or_refused(along * [0.6, 0.8] + 50)

    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_few_cells(self, n: int) -> None:
        """A slice may be tiny."""
        self._check_or_refused(np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])[:n])

    def test_positions_are_not_changed(self, pos: NDArray[np.float64]) -> None:
        """Not even written to: they may be mapped from a file."""
        before = pos.copy()
        pos.flags.writeable = False
        self.make()(pos)
        np.testing.assert_array_equal(pos, before)

    def test_any_layout_of_the_positions(self, pos: NDArray[np.float64]) -> None:
        """Columns of a larger table, or in Fortran's order."""
        wide = np.zeros((len(pos), 5))
        wide[:, 1:3] = pos
        for cells in (wide[:, 1:3], np.asfortranarray(pos)):
            _check_same(self.make()(pos), self.make()(cells))

    def test_same_result_twice(self, pos: NDArray[np.float64]) -> None:
        """Nothing is random."""
        _check_same(self.make()(pos), self.make()(pos))

    def test_config_round_trip(self, pos: NDArray[np.float64]) -> None:
        """The config of the builder builds it again."""
        builder = self.make()
        again = instantiate(to_config(builder))
        assert to_config(again) == to_config(builder)
        assert again.in_microns == builder.in_microns
        _check_same(builder(pos), again(pos))

    def _check_or_refused(self, pos: NDArray[np.float64]) -> None:
        try:
            near = self.make()(pos)
        except InputError:
            return
        _check_edges(near, pos)
        if self.symmetric:
            _check_same(near, near.T.tocsr())


def _rows(near: sp.csr_matrix) -> NDArray[np.int64]:
    return np.repeat(np.arange(near.shape[0]), np.diff(near.indptr))


def _check_edges(near: sp.csr_matrix, pos: NDArray[np.float64]) -> None:
    assert isinstance(near, sp.csr_matrix)
    assert near.shape == (len(pos), len(pos))
    assert near.data.dtype == np.float64
    row = _rows(near)
    assert (row != near.indices).all()
    np.testing.assert_allclose(near.data, np.linalg.norm(pos[row] - pos[near.indices], axis=1), atol=1e-300)


def _check_same(near: sp.csr_matrix, other: sp.csr_matrix, rtol: float = 0.0) -> None:
    """Explicit zeros count, so that matrices are not compared as such."""
    np.testing.assert_array_equal(near.indptr, other.indptr)
    np.testing.assert_array_equal(near.indices, other.indices)
    np.testing.assert_allclose(near.data, other.data, rtol=rtol, atol=0)
