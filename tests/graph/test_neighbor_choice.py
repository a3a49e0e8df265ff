import numpy as np
import pytest

from stgraph._config import instantiate, to_config
from stgraph.errors import InputError
from stgraph.graph.builders import Radius
from stgraph.graph.neighbor_choice import GraphNeighbors, NearestCells, RandomCells
from stgraph.graph.neighborhoods import neighborhoods
from stgraph.preprocess.ragged_tokens import RaggedTokens


def scattered(n=60, seed=0):
    cells = RaggedTokens(np.arange(n, dtype=np.int32), np.arange(n + 1), np.ones(n, np.float32))
    return np.random.default_rng(seed).uniform(0, 100, (n, 2)), cells


def test_nearest_are_those_of_neighborhoods_and_the_cells_stay():
    pos, cells = scattered()
    same, around = NearestCells(5)(pos, cells)
    assert same is cells
    np.testing.assert_array_equal(around.index, neighborhoods(pos, 5).index)


def test_a_graph_names_those_within_reach_and_no_more():
    pos, cells = scattered()
    around = GraphNeighbors(Radius(15.0), 4)(pos, cells)[1]
    far = np.linalg.norm(pos[:, None] - pos[None], axis=2)
    np.fill_diagonal(far, np.inf)
    for i, row in enumerate(around.index):
        within = [int(j) for j in np.argsort(far[i]) if far[i, j] <= 15][:4]
        assert row.tolist() == [i, *within, *[-1] * (4 - len(within))]
    assert (around.index == -1).any()


def test_random_cells_are_any_but_the_cell_itself_each_once():
    pos, cells = scattered()
    around = RandomCells(7)(pos, cells)[1]
    assert around.index.shape == (60, 8)
    assert (around.index[:, 0] == np.arange(60)).all()
    assert all(len(set(row)) == 8 for row in around.index.tolist())
    own = np.linalg.norm(pos[around.index] - pos[:, None], axis=2)
    np.testing.assert_allclose(around.distance, own)
    assert (np.diff(around.distance, axis=1) >= 0).all()
    # Each other cell is as likely: 60 x 7 draws of 59.
    drawn = np.bincount(around.index[:, 1:].ravel(), minlength=60)
    assert drawn.min() > 0
    assert drawn.max() < 20
    # They are not the nearest.
    assert around.distance[:, 1:].mean() > 2 * NearestCells(7)(pos, cells)[1].distance[:, 1:].mean()


def test_a_seed_decides():
    pos, cells = scattered()
    first, again, other = (RandomCells(3, random_state=seed)(pos, cells)[1].index for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("choice", [NearestCells(8), RandomCells(8)])
def test_too_few_cells_say_what_to_do(choice):
    pos, cells = scattered(8)
    with pytest.raises(InputError, match=r"has 8 cells, and 8 neighbours of each need 9 at least: .* n_neighbors=7 or"):
        choice(pos, cells)


def test_of_a_graph_there_may_be_too_few():
    pos, cells = scattered(3)
    assert GraphNeighbors(Radius(500.0), 8)(pos, cells)[1].index.shape == (3, 9)


@pytest.mark.parametrize("choice", [NearestCells(3), GraphNeighbors(Radius(9.0), 3), RandomCells(3, 1)])
def test_configs_there_and_back(choice):
    assert instantiate(to_config(choice)) == choice


@pytest.mark.parametrize("cls", [NearestCells, RandomCells])
def test_bad_arguments(cls):
    with pytest.raises(InputError, match="n_neighbors"):
        cls(0)
