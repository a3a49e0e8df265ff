import numpy as np
import pytest
import torch

from stgraph.data.labelled_neighborhoods import LabelledNeighborhoods
from stgraph.data.neighborhood_sequences import NeighborhoodSequences
from stgraph.errors import InputError
from stgraph.graph.neighborhoods import neighborhoods
from stgraph.preprocess.ragged_tokens import RaggedTokens


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


def test_a_truth_of_other_cells():
    with pytest.raises(InputError, match=r"slices of \[6\] cells, but the data set has \[6, 4\]"):
        LabelledNeighborhoods(two_slices(), [np.zeros(6, dtype=np.int64)])
