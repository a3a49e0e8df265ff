import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stgraph.errors import InputError
from stgraph.graph import ball_counts
from stgraph.graph.ball_counts import count_within, tally_within
from stgraph.graph.builders import Radius


def brute_force(pos, codes, n_codes, radius):
    near = np.linalg.norm(pos[:, None] - pos, axis=2) <= radius * (1 + 1e-9)
    np.fill_diagonal(near, False)
    return np.stack([(near & (codes == code)).sum(axis=1) for code in range(n_codes)], axis=1)


@settings(max_examples=20, deadline=None)
@given(
    pos=arrays(np.float64, st.tuples(st.integers(1, 40), st.just(2)), elements=st.integers(-8, 8).map(float)),
    radius=st.sampled_from([0.0, 1.0, 1.5, 5.0, 100.0]),
    data=st.data(),
)
def test_counts_are_those_of_all_pairs(pos, radius, data):
    codes = data.draw(arrays(np.int64, len(pos), elements=st.integers(-1, 2)))
    np.testing.assert_array_equal(tally_within(pos, codes, 3, radius), brute_force(pos, codes, 3, radius))
    np.testing.assert_array_equal(count_within(pos, radius), brute_force(pos, codes * 0, 1, radius)[:, 0])


def test_bands_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    pos, codes = rng.uniform(size=(800, 2)) * [1, 5], rng.integers(-1, 4, size=800)
    expected = brute_force(pos, codes, 4, 0.2)
    made = []
    bands = ball_counts._bands

    def spy(pos, reach):
        for cells, around in bands(pos, reach):
            made.append((len(cells), len(around)))
            yield cells, around

    monkeypatch.setattr(ball_counts, "_bands", spy)
    monkeypatch.setattr(ball_counts, "_PAIRS", 4_000)
    np.testing.assert_array_equal(tally_within(pos, codes, 4, 0.2), expected)
    assert len(made) > 3
    assert sum(cells for cells, _ in made) == 800
    assert max(around for _, around in made) < 800


def test_the_same_cells_as_in_the_graph():
    rows, columns = np.divmod(np.arange(400), 20)
    spots = np.stack([columns * 100.0 + 50 * (rows % 2), rows * 50 * np.sqrt(3)], axis=1)
    turned = spots @ np.array([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]])
    counts = count_within(turned, 100.0)
    np.testing.assert_array_equal(counts, np.diff(Radius(100.0)(turned).indptr))
    assert counts.max() == 6


def test_no_cell_and_one_cell():
    assert count_within(np.empty((0, 2)), 1.0).shape == (0,)
    assert count_within(np.zeros((1, 2)), 1.0).tolist() == [0]


def test_bad_input():
    pos = np.zeros((3, 2))
    with pytest.raises(InputError, match="not negative, not -1"):
        count_within(pos, -1.0)
    with pytest.raises(InputError, match="a kind below 2 each"):
        tally_within(pos, np.array([0, 1, 2]), 2, 1.0)
    with pytest.raises(InputError, match="position of cell 0 is not finite"):
        count_within(np.full((3, 2), np.nan), 1.0)
