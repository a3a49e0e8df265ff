import numpy as np
import pytest

from stgraph._config import instantiate, to_config
from stgraph.data.neighborhood_sequences import NeighborhoodSequences
from stgraph.errors import InputError, StgraphWarning
from stgraph.graph.neighborhoods import neighborhoods
from stgraph.preprocess.ragged_tokens import RaggedTokens
from stgraph.tasks.center_batches import NearbyCenters, RandomCenters

SIZES = (300, 200)
FREE = 10**9


@pytest.fixture(scope="module")
def tissue():
    """Cells of one gene and two depth tokens, 3 tokens each, with 8 neighbours: neighbourhoods of 27."""
    rng = np.random.default_rng(0)
    pos = [rng.random((n, 2)) * np.sqrt(n) for n in SIZES]
    cells = [RaggedTokens(np.zeros(n, np.int32), np.arange(n + 1), np.ones(n, np.float32)) for n in SIZES]
    return NeighborhoodSequences(cells, [neighborhoods(p, 8) for p in pos], [np.arange(1)] * 2, num_genes=1), pos


def batches(batching, tissue, max_tokens, max_cells, seed=0):
    return batching(*tissue, max_tokens=max_tokens, max_cells=max_cells, random_state=seed).batches(0)


@pytest.mark.parametrize("batching", [RandomCenters(), RandomCenters(4), NearbyCenters(), NearbyCenters(1)])
def test_every_cell_once_and_the_same_for_the_same_seed(batching, tissue):
    made, again, other = (batches(batching, tissue, FREE, 32, seed) for seed in (0, 0, 1))
    assert sorted(np.concatenate(made).tolist()) == list(range(500))
    assert all(np.array_equal(a, b) for a, b in zip(made, again, strict=True))
    assert not np.array_equal(made[0], other[0])
    assert max(map(len, made)) == 32
    assert instantiate(to_config(batching)) == batching


def test_nearby_centers_read_fewer_distinct_cells_within_the_same_budget(tissue):
    """Those that are shared count once, so that as many tokens are of more centres."""
    with pytest.warns(StgraphWarning, match=r"A step has some 5 centres rather than max_cells=64"):
        random = batches(RandomCenters(), tissue, 135, 64)
    with pytest.warns(StgraphWarning, match=r"A step has some \d+ centres rather than max_cells=64"):
        near = batches(NearbyCenters(1), tissue, 135, 64)
    assert np.mean([len(batch) for batch in near]) > 3 * np.mean([len(batch) for batch in random])
    assert max(tissue[0][batch].unique.num_tokens for batch in near) <= 135


@pytest.mark.parametrize("batching", [RandomCenters(), NearbyCenters(2)])
def test_a_budget_that_ends_no_batch_is_not_told_of(batching, tissue):
    free = batches(batching, tissue, FREE, 20)
    assert all(np.array_equal(a, b) for a, b in zip(free, batches(batching, tissue, 540, 20), strict=True))
    batches(batching, tissue, FREE, 10_000)  # all cells in a batch or two, because there are no more


@pytest.mark.parametrize(("max_tokens", "max_cells", "fit"), [(FREE, 2, 2), (27 * 3, 100, 3), (27, 100, 1)])
@pytest.mark.filterwarnings("ignore:A step has")
def test_as_many_places_as_fit(tissue, max_tokens, max_cells, fit):
    with pytest.warns(
        StgraphWarning, match=f"of {fit} places rather than 4: more do not fit into max_cells={max_cells}"
    ):
        made = batches(NearbyCenters(4), tissue, max_tokens, max_cells)
    assert max(map(len, made)) <= max_cells
    assert max(tissue[0][batch].unique.num_tokens for batch in made) <= max_tokens


@pytest.mark.parametrize("make", [lambda: RandomCenters(0), lambda: NearbyCenters(0), lambda: NearbyCenters(1.5)])
def test_bad_arguments(make):
    with pytest.raises(InputError, match=r"pool_batches|num_places"):
        make()
