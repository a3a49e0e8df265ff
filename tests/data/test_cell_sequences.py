import numpy as np
import pytest
import scipy.sparse as sp

from stgraph.data.cell_sequences import CellSequences
from stgraph.errors import InputError
from stgraph.preprocess.ragged_tokens import RaggedTokens


def ragged(n, seed, values=False, longest=9):
    rng = np.random.default_rng(seed)
    indptr = np.concatenate([[0], np.cumsum(rng.integers(1, longest + 1, size=n))])
    tokens = rng.integers(2, 100, size=indptr[-1]).astype(np.int32)
    return RaggedTokens(tokens, indptr, rng.random(len(tokens), dtype=np.float32) if values else None)


def ring(n):
    """Each cell with the one before and the one behind it."""
    rows = np.arange(n)
    links = sp.csr_matrix((np.ones(n), (rows, (rows + 1) % n)), shape=(n, n))
    return sp.csr_matrix(links + links.T)


@pytest.fixture
def slices():
    return [ragged(30, 0, values=True), ragged(20, 1, values=True)]


@pytest.fixture
def cells(slices):
    return CellSequences(slices, neighbors=[ring(30), ring(20)])


def test_a_batch_holds_the_tokens_of_each_cell_asked_for(cells, slices):
    asked = np.array([49, 3, 30, 29, 0])
    batch = cells[asked]
    assert batch.cell.tolist() == asked.tolist()
    for s, (which, row) in enumerate([(1, 19), (0, 3), (1, 0), (0, 29), (0, 0)]):
        own = slice(*batch.offsets[s : s + 2])
        there = slice(*slices[which].indptr[row : row + 2])
        assert batch.tokens[own].tolist() == slices[which].tokens[there].tolist()
        assert batch.values[own].tolist() == slices[which].values[there].tolist()


def test_partners_are_the_neighbours_within_the_batch(cells):
    asked = np.array([31, 5, 4, 49, 30, 29, 7, 0])
    found = {tuple(asked[pair]) for pair in cells[asked].partner.numpy()}
    # 29 and 30 have successive numbers, but are in different slices.
    expected = {(31, 30), (30, 31), (4, 5), (5, 4), (49, 30), (30, 49), (0, 29), (29, 0)}
    assert found == expected
    assert len(cells[asked].partner) == len(expected)
    assert cells[[3]].partner.shape == (0, 2)


def test_a_cell_is_not_its_own_partner(slices):
    looped = sp.csr_matrix(ring(30) + sp.eye(30))
    assert CellSequences(slices[:1], neighbors=[looped])[[4, 5]].partner.tolist() == [[0, 1], [1, 0]]


def test_without_neighbours_there_are_no_partners_and_without_values_no_values():
    batch = CellSequences([ragged(5, 0)])[[1, 2]]
    assert batch.partner is None
    assert batch.values is None


def test_a_cell_without_a_token(slices):
    empty = RaggedTokens(np.zeros(2, np.int32), np.array([0, 1, 1, 2]), np.zeros(2, np.float32))
    with pytest.raises(InputError, match=r"Cell 1 of slice 1 \(both from 0\) has no token"):
        CellSequences([slices[0], empty])


def test_slices_with_and_without_values(slices):
    with pytest.raises(InputError, match="all with values or all without"):
        CellSequences([slices[0], ragged(5, 0)])
    with pytest.raises(InputError, match="at least one slice"):
        CellSequences([])


def test_neighbours_of_other_slices(slices):
    with pytest.raises(InputError, match=r"shape \[\(20, 20\), \(30, 30\)\], not \[\(30, 30\), \(20, 20\)\]"):
        CellSequences(slices, neighbors=[ring(20), ring(30)])


def test_cells_that_are_not_there(cells):
    for asked in ([50], [-1]):
        with pytest.raises(IndexError, match="There are 50 cells"):
            cells[asked]
    with pytest.raises(InputError, match="asked for twice"):
        cells[[1, 1]]
