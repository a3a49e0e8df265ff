import itertools

import numpy as np
import pytest
from torch.utils.data import DataLoader

from stgraph.data.depth_values import BatchDepth, CellDepth
from stgraph.data.neighborhood_sequences import NeighborhoodSequences
from stgraph.data.spatial_batches import SpatialBatches
from stgraph.errors import InputError
from stgraph.graph.neighborhoods import neighborhoods
from stgraph.preprocess.ragged_tokens import RaggedTokens

SIZES = (300, 200)


@pytest.fixture(scope="module")
def tissue():
    """Two slices and their positions."""
    rng = np.random.default_rng(0)
    pos = [rng.random((n, 2)) * np.sqrt(n) for n in SIZES]
    tokens = []
    for n in SIZES:
        lengths = rng.integers(1, 6, size=n)
        genes = np.concatenate([np.arange(length) for length in lengths]).astype(np.int32)
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        tokens.append(RaggedTokens(genes, indptr, np.ones(len(genes), np.float32)))
    tables = [neighborhoods(of_slice, 8) for of_slice in pos]
    return NeighborhoodSequences(tokens, tables, [np.arange(5)] * 2, num_genes=5), pos


@pytest.mark.parametrize("num_places", [1, 3])
def test_each_cell_once_and_within_the_budget(tissue, num_places):
    cells, pos = tissue
    sampler = SpatialBatches(cells, pos, max_tokens=330, max_cells=40, num_places=num_places)
    for epoch in range(3):
        batches = sampler.batches(epoch)
        assert sorted(np.concatenate(batches).tolist()) == list(range(len(cells)))
        assert max(map(len, batches)) <= 40
        # A cell that several centres of a batch read counts once.
        tokens = [cells[batch].unique.num_tokens for batch in batches]
        assert max(tokens) <= 330
        if num_places == 1:
            assert np.mean(tokens) > 250


def test_places_end_as_late_as_they_can(tissue):
    """Against a plain count, also where values depend on the batch, so that nothing is shared."""
    cells, pos = tissue
    whole = [NeighborhoodSequences(cells.slices, cells.neighborhoods, [np.arange(5)] * 2, num_genes=5, depth=depth)
             for depth in (CellDepth(), BatchDepth())]  # fmt: skip
    for each in whole:
        sampler = SpatialBatches(each, pos, max_tokens=400, max_cells=25)
        for which, n in enumerate(SIZES):
            order = np.random.default_rng(0).permutation(n)
            ends = sampler._ends(which, order, 400, 25).tolist()
            assert ends[0] == 0
            assert ends[-1] == n
            for begin, end in itertools.pairwise(ends):
                cells_of = order[begin : end + 1] + each.first[which]
                assert each[cells_of[: end - begin]].unique.num_tokens <= 400
                assert end == n or end - begin == 25 or each[cells_of].unique.num_tokens > 400


def test_cells_of_a_batch_share_their_neighbours(tissue):
    cells, pos = tissue
    batches = SpatialBatches(cells, pos, max_tokens=10**6, max_cells=50).batches(0)
    order = np.random.default_rng(0).permutation(len(cells))
    near = np.mean([cells[batch].unique.num_cells for batch in batches])
    anywhere = np.mean([cells[order[i : i + 50]].unique.num_cells for i in range(0, 500, 50)])
    assert near < anywhere / 2
    # A batch of one place is in one slice.
    assert all(len(set((batch >= SIZES[0]).tolist())) == 1 for batch in batches)


def test_places_of_a_batch_are_apart(tissue):
    cells, pos = tissue
    batches = SpatialBatches(cells, pos, max_tokens=10**6, max_cells=40, num_places=2).batches(0)
    assert any(len(set((batch >= SIZES[0]).tolist())) == 2 for batch in batches)
    own = np.concatenate(pos)
    spread = [own[batch][:20].std(axis=0).max() for batch in batches if len(batch) == 40]
    assert np.mean(spread) < 3  # of 17 across


def test_the_order_is_of_the_seed_and_the_epoch_and_can_go_on(tissue):
    cells, pos = tissue
    made = SpatialBatches(cells, pos, max_tokens=300, random_state=3)
    again = SpatialBatches(cells, pos, max_tokens=300, random_state=3)
    other = SpatialBatches(cells, pos, max_tokens=300, random_state=4)

    def whole(batches):
        return [batch.tolist() for batch in batches]

    again.batches(0)
    assert whole(made.batches(5)) == whole(again.batches(5)) != whole(other.batches(5))
    # Other batches in the next epoch, not the same in another order.
    assert {frozenset(batch) for batch in whole(made.batches(5))}.isdisjoint(
        frozenset(batch) for batch in whole(made.batches(6)) if len(batch) > 5
    )
    made.set_epoch(5, first_batch=4)
    assert list(made) == whole(again.batches(5))[4:]
    assert list(made) == whole(again.batches(5))
    assert len(made) == len(again.batches(5))


def test_it_is_a_sampler_of_a_loader(tissue):
    cells, pos = tissue
    loader = DataLoader(cells, sampler=SpatialBatches(cells, pos, max_tokens=3000), batch_size=None)
    assert sum(batch.num_cells for batch in loader) == len(cells)


def test_what_cannot_be_is_refused(tissue):
    cells, pos = tissue
    with pytest.raises(InputError, match=r"slices of \[200, 300\] cells, but \[300, 200\] are"):
        SpatialBatches(cells, pos[::-1], max_tokens=1000)
    with pytest.raises(InputError, match=r"has \d+ tokens, more than the 20 of a batch"):
        SpatialBatches(cells, pos, max_tokens=40, num_places=2)
    for name, value in (("num_places", 0), ("random_state", -1), ("max_cells", 1)):
        with pytest.raises(InputError, match=f"SpatialBatches needs {name} of at least"):
            SpatialBatches(cells, pos, **({"max_tokens": 1000, "num_places": 2} | {name: value}))
    none = NeighborhoodSequences(
        [cells.slices[0].take(np.arange(0))], [type(cells.neighborhoods[0])(np.zeros((0, 1), int), np.zeros((0, 1)))],
        [np.arange(5)], num_genes=5,
    )  # fmt: skip
    with pytest.raises(InputError, match="nothing to make batches of"):
        SpatialBatches(none, [np.zeros((0, 2))], max_tokens=10)
