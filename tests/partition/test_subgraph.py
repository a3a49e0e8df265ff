import numpy as np
import pytest

from stgraph.graph.builders import KNN
from stgraph.partition.subgraph import induced


def entries(near):
    row = np.repeat(np.arange(near.shape[0]), np.diff(near.indptr))
    return dict(zip(zip(row.tolist(), near.indices.tolist(), strict=True), near.data.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_edges_among_cells(seed, symmetric):
    rng = np.random.default_rng(seed)
    pos = rng.uniform(size=(150, 2))
    pos[::7] = pos[0]  # explicit zeros
    near = KNN(4, symmetric=symmetric)(pos)
    cells = np.flatnonzero(rng.random(150) < rng.choice([0.05, 0.5, 0.95]))
    found = induced(near, cells)
    place = {cell: i for i, cell in enumerate(cells.tolist())}
    expected = {
        (place[row], place[col]): length
        for (row, col), length in entries(near).items()
        if row in place and col in place
    }
    assert found.shape == (len(cells), len(cells))
    assert entries(found) == expected
    assert found.data.dtype == np.float64
    assert found.has_canonical_format
    if 0 in place and 7 in place:
        assert 0.0 in expected.values()


def test_all_cells_and_none():
    near = KNN(3)(np.random.default_rng(0).uniform(size=(50, 2)))
    whole = induced(near, np.arange(50))
    np.testing.assert_array_equal(whole.indices, near.indices)
    np.testing.assert_array_equal(whole.indptr, near.indptr)
    assert induced(near, np.zeros(0, dtype=np.int64)).shape == (0, 0)


def test_cells_with_large_numbers():
    n = 300_000
    near = KNN(2)(np.arange(n)[:, None] * [1.0, 0.0])
    begins = np.arange(0, n - 10, 1000)
    cells = (begins[:, None] + np.arange(4)).ravel()
    found = induced(near, cells)
    piece = np.array([[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0]])
    inner = found[4:-4, 4:-4]
    np.testing.assert_array_equal(inner[:4, :4].toarray(), piece)
    assert inner.nnz == 6 * (len(begins) - 2)
