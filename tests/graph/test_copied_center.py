import numpy as np
import pytest

from stgraph._config import instantiate, to_config
from stgraph.data.neighborhood_sequences import NeighborhoodSequences
from stgraph.errors import InputError
from stgraph.graph.copied_center import CopiedCenter
from stgraph.preprocess.ragged_tokens import RaggedTokens

PANEL = np.array([1, 4, 5, 9])


def slice_of(n, seed=0):
    counts = np.random.default_rng(seed).poisson(1.0, size=(n, len(PANEL)))
    row, column = np.nonzero(counts)
    indptr = np.concatenate([[0], np.cumsum((counts > 0).sum(axis=1))])
    return RaggedTokens(PANEL[column].astype(np.int32), indptr, counts[row, column].astype(np.float32)), counts


@pytest.mark.parametrize("block", [1, 2**22])
def test_copies_are_the_centre_with_poisson_noise(block, monkeypatch):
    monkeypatch.setattr("stgraph.graph.copied_center._BLOCK", block)
    n, k = 300, 4
    cells, counts = slice_of(n)
    copied, around = CopiedCenter(k, rate=0.3)(np.zeros((n, 2)), cells)
    assert len(copied) == n * (1 + k)
    assert np.array_equal(copied.take(np.arange(n)).tokens, cells.tokens)
    assert not around.distance.any()
    assert (copied.values > 0).all()
    dense = np.zeros((len(copied), 10))
    dense[np.repeat(np.arange(len(copied)), copied.lengths), copied.tokens] = copied.values
    noise = dense[around.index][:, 1:, PANEL] - counts[:, None]
    assert (noise >= 0).all()
    assert np.array_equal(noise, np.round(noise))
    mean = np.repeat(np.where(counts > 0, counts, 1) * 0.3, k, axis=0).reshape(noise.shape)
    for which in (counts == 0, counts == 1, counts == 2, counts > 2):
        own, expected = noise.transpose(0, 2, 1)[which], mean.transpose(0, 2, 1)[which]
        assert abs(own.sum() - expected.sum()) < 4 * np.sqrt(expected.sum())
        np.testing.assert_allclose(((own - expected) ** 2).mean(), expected.mean(), rtol=0.25)
    # Genes that no cell has get no noise.
    assert dense[:, np.setdiff1d(np.arange(10), PANEL)].sum() == 0
    assert (noise[:, 0] != noise[:, 1]).any()


def test_copies_are_read_as_neighbours_and_are_no_cells():
    cells, _ = slice_of(5)
    copied, around = CopiedCenter(3)(np.zeros((5, 2)), cells)
    sequences = NeighborhoodSequences([copied], [around], [PANEL], num_genes=10)
    batch = sequences[[3, 1]]
    assert (len(sequences), batch.cell.tolist(), batch.unique.num_cells) == (5, [3, 1], 8)
    assert batch.unique.cell[batch.neighbors[:, 1:]].unique().tolist() == [-1]


def test_copies_of_cells_without_counts_and_of_no_cells():
    for n in (2, 0):
        empty = RaggedTokens(np.zeros(0, np.int32), np.zeros(n + 1, np.int64), np.zeros(0, np.float32))
        copied, around = CopiedCenter(3)(np.zeros((n, 2)), empty)
        assert (len(copied), len(copied.tokens), around.index.shape) == (4 * n, 0, (n, 4))


def test_it_is_a_part_of_a_run_and_checks_what_it_is_given():
    made = CopiedCenter(3, 0.5, 7)
    assert instantiate(to_config(made)) == made
    cells, _ = slice_of(9)
    one, same, other = (
        CopiedCenter(3, random_state=seed)(np.zeros((9, 2)), cells)[0].values.tolist() for seed in (1, 1, 2)
    )
    assert one == same != other
    with pytest.raises(InputError, match="CopiedCenter needs a positive rate"):
        CopiedCenter(2, rate=0.0)
    with pytest.raises(InputError, match="CopiedCenter needs n_neighbors of at least 1"):
        CopiedCenter(0)
    with pytest.raises(InputError, match="adds noise to counts, but the cells have none"):
        made(np.zeros((9, 2)), RaggedTokens(cells.tokens, cells.indptr))
