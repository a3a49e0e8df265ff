import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.preprocessing import StandardScaler

from stgraph.errors import InputError
from stgraph.metrics.spatial import chaos, pas


def chaos_by_all_pairs(labels, pos):
    """The definition of SDMBench, cell by cell."""
    places, total = StandardScaler().fit_transform(pos), 0.0
    for label in np.unique(labels):
        between = cdist(places[labels == label], places[labels == label])
        np.fill_diagonal(between, np.inf)
        if len(between) > 2:
            total += between.min(axis=1).sum()
    return total / len(labels)


def pas_by_all_pairs(labels, pos, n_neighbors):
    between = cdist(pos, pos)
    np.fill_diagonal(between, np.inf)
    near = np.argsort(between, axis=1)[:, :n_neighbors]
    return np.mean([2 * (labels[some] != labels[i]).sum() > n_neighbors for i, some in enumerate(near)])


def some_cells(seed, n_cells, n_clusters):
    rng = np.random.default_rng(seed)
    pos = rng.normal(size=(n_cells, 2)) * [3000, 40] + [1e5, -7]
    return rng.integers(n_clusters, size=n_cells), pos


@given(seed=st.integers(0, 2**32 - 1), n_cells=st.integers(12, 60), n_clusters=st.integers(1, 8))
@settings(deadline=None, max_examples=60)
def test_agrees_with_all_pairs(seed, n_cells, n_clusters):
    labels, pos = some_cells(seed, n_cells, n_clusters)
    assert chaos(labels, pos) == pytest.approx(chaos_by_all_pairs(labels, pos))
    for n_neighbors in (10, 3, 1):
        assert pas(labels, pos, n_neighbors=n_neighbors) == pas_by_all_pairs(labels, pos, n_neighbors)


def test_halves_are_continuous_and_shuffled_labels_are_not():
    rng = np.random.default_rng(0)
    pos = rng.uniform(size=(3000, 2))
    halves = (pos[:, 0] > 0.5).astype(int)
    shuffled = rng.permutation(halves)
    assert pas(halves, pos) < 0.02
    # Of ten neighbours with an even chance each, six or more differ in 37.7 % of cases.
    assert pas(shuffled, pos) == pytest.approx(0.377, abs=0.05)
    # Half the density is a distance root two as long.
    assert chaos(shuffled, pos) / chaos(halves, pos) == pytest.approx(np.sqrt(2), rel=0.05)


def test_six_of_ten_make_a_cell_abnormal_and_five_do_not():
    # Of eleven cells each asks all ten others: five differ from a 0, and six from a 1.
    labels = np.array([0] * 6 + [1] * 5)
    assert pas(labels, np.random.default_rng(0).normal(size=(11, 2))) == 5 / 11


def test_chaos_is_of_no_unit_and_every_axis_of_its_own():
    labels, pos = some_cells(0, 100, 4)
    assert chaos(labels, pos * [1000.0, 0.1] + 55) == pytest.approx(chaos(labels, pos))


def test_chaos_counts_cells_of_tiny_clusters_and_not_their_distances():
    labels, pos = some_cells(1, 30, 1)
    labels[:3] = [1, 2, 2]
    assert chaos(labels, pos) == pytest.approx(chaos_by_all_pairs(labels, pos))
    assert np.isnan(chaos(np.arange(30) // 2, pos))


def test_cells_on_a_line_and_at_one_place():
    line = np.stack([np.arange(20.0), np.full(20, 0.1)], axis=1)
    assert chaos(np.zeros(20, dtype=int), line) == pytest.approx(1 / np.arange(20).std())
    same = np.zeros((20, 2))
    assert chaos(np.zeros(20, dtype=int), same) == 0
    # The nearest other cell of each is its twin, which the search may name before the cell itself.
    twins = np.repeat(np.random.default_rng(0).normal(size=(20, 2)), 2, axis=0)
    assert pas(np.tile([0, 1], 20), twins, n_neighbors=1) == 1
    # A cell that shares its place with more others than are asked is not its own neighbour.
    assert pas(np.arange(20), same) == 1
    assert pas(np.zeros(20, dtype=int), same) == 0


@pytest.mark.parametrize("score", [chaos, pas])
def test_labels_and_positions_that_do_not_fit_are_refused(score):
    labels, pos = some_cells(0, 20, 2)
    with pytest.raises(InputError, match="19 labels for 20 cells"):
        score(labels[1:], pos)
    with pytest.raises(InputError, match=r"pos of shape \(any, 2\), cells in rows, not \(20, 1\)"):
        score(labels, pos[:, :1])
    pos[4] = np.nan
    with pytest.raises(InputError, match=r"1 of 20 rows of pos hold NaN or infinity \(the first is row 4\)"):
        score(labels, pos)


@pytest.mark.parametrize("n_neighbors", [0, 20])
def test_pas_needs_more_cells_than_neighbours(n_neighbors):
    labels, pos = some_cells(0, 20, 2)
    with pytest.raises(InputError, match=f"n_neighbors from 1 to 19 for 20 cells, not {n_neighbors}"):
        pas(labels, pos, n_neighbors=n_neighbors)
