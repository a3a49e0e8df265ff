import numpy as np
import pytest
import torch

from stgraph.data.labelled_neighborhoods import LabelledNeighborhoods
from stgraph.data.neighborhood_sequences import NeighborhoodSequences
from stgraph.errors import InputError
from stgraph.graph.neighborhoods import Neighborhoods, neighborhoods
from stgraph.preprocess.ragged_tokens import RaggedTokens
from stgraph.tasks.center_batches import NearbyCenters, RandomCenters


def two_slices():
    rng = np.random.default_rng(0)
    cells = [
        RaggedTokens(rng.integers(0, 5, n).astype(np.int32), np.arange(n + 1), np.ones(n, np.float32)) for n in (6, 4)
    ]
    around = [neighborhoods(rng.uniform(0, 9, (n, 2)), 2) for n in (6, 4)]
    return NeighborhoodSequences(cells, around, [np.arange(5)] * 2, num_genes=5)


@pytest.mark.parametrize("wide", [False, True])
def test_known_cells_with_all_their_neighbours(wide):
    cells = two_slices()
    classes = [np.array([2, -1, 0, -1, 1, 1]), np.array([-1, -1, 0, -1])]
    truth = [np.where(y < 0, np.nan, y)[:, None] * [1.0, 2.0] for y in classes] if wide else classes
    known = LabelledNeighborhoods(cells, truth)
    assert known.rows.tolist() == [0, 2, 4, 5, 8]
    assert known.lengths.tolist() == cells.lengths[known.rows].tolist()
    batch, plain = known[[4, 0]], cells[[8, 0]]
    assert torch.equal(batch.neighbors, plain.neighbors)
    assert torch.equal(batch.unique.tokens, plain.unique.tokens)
    assert batch.truth.tolist() == ([[0.0, 0.0], [2.0, 4.0]] if wide else [0, 2])
    assert batch.truth.dtype == (torch.float32 if wide else torch.int64)
    assert batch.to("cpu").truth.tolist() == batch.truth.tolist()


@pytest.mark.parametrize("make", [RandomCenters(2), NearbyCenters(1)])
def test_samplers_make_batches_of_known_cells_alone(make):
    rng, cells = np.random.default_rng(0), two_slices()
    pos = [rng.uniform(0, 9, (n, 2)) for n in (6, 4)]
    truth = [np.array([2, -1, 0, -1, 1, 1]), np.array([-1, -1, 0, -1])]
    labelled = LabelledNeighborhoods(cells, truth)
    assert labelled.first.tolist() == [0, 4, 5]
    chosen = [of_slice[y >= 0] for of_slice, y in zip(pos, truth, strict=True)]
    most = 2 * int(labelled.lengths.max())
    sampler = make(labelled, chosen, max_tokens=most, max_cells=2, random_state=0)
    batches = sampler.batches(1)
    assert sorted(np.concatenate(batches).tolist()) == [0, 1, 2, 3, 4]
    assert max(map(len, batches)) == 2
    for batch in batches:
        found = labelled[batch]
        assert found.truth.tolist() == labelled.truth[batch].tolist()
        assert len(found.unique.tokens) <= most


def test_places_are_cut_by_the_tokens_of_known_cells():
    """Cell i has i + 1 tokens and no neighbour but itself; every second one is known."""
    lengths = np.arange(1, 9)
    ragged = RaggedTokens(
        np.concatenate([np.arange(n) for n in lengths]).astype(np.int32),
        np.concatenate([[0], np.cumsum(lengths)]),
        np.ones(36, np.float32),
    )
    pos = np.stack([np.arange(8.0), np.zeros(8)], axis=1)
    cells = NeighborhoodSequences(
        [ragged], [Neighborhoods(np.arange(8)[:, None], np.zeros((8, 1)))], [np.arange(8)], num_genes=8
    )
    labelled = LabelledNeighborhoods(cells, [np.where(np.arange(8) % 2 == 0, -1, 3)])
    sampler = NearbyCenters(1)(labelled, [pos[1::2]], max_tokens=20, max_cells=4, random_state=0)
    batches = sampler.batches(1)
    assert sorted(np.concatenate(batches).tolist()) == [0, 1, 2, 3]
    for batch in batches:
        assert labelled.lengths[batch].sum() == len(labelled[batch].unique.tokens) <= 20
    assert len(batches) == 2  # 4, 6 and 8 of 4 + 6 + 8 + 10 tokens, or the like


def test_a_truth_of_other_cells():
    with pytest.raises(InputError, match=r"slices of \[6\] cells, but the data set has \[6, 4\]"):
        LabelledNeighborhoods(two_slices(), [np.zeros(6, dtype=np.int64)])
