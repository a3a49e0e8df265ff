import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap
from scipy.stats import t as student

from stgraph.errors import InputError
from stgraph.metrics.intervals import block_bootstrap, clustered_interval, group_means, mean_interval, spatial_blocks


def smooth_field(rng, pos, length):
    """A Gaussian field of mean 0 whose likeness falls off over ``length``."""
    wave = rng.normal(size=(2, 100)) / length
    phase = rng.uniform(0, 2 * np.pi, size=100)
    return np.cos(pos @ wave + phase) @ rng.normal(size=100)


def test_blocks_are_wider_and_nearer_to_the_truth_than_cells_where_neighbours_are_alike():
    rng = np.random.default_rng(0)
    held, width = np.zeros(2), np.zeros(2)
    for _ in range(30):
        pos = rng.uniform(size=(400, 2))
        right = smooth_field(rng, pos, 0.05) > 0  # half of all tissue
        for i, blocks in enumerate((spatial_blocks(pos, n_blocks=20), np.arange(400))):
            low, high = block_bootstrap(lambda rows: right[rows].mean(), blocks, n_draws=100)  # noqa: B023
            held[i] += low <= 0.5 <= high
            width[i] += high - low
    by_block, by_cell = held / 30
    assert width[0] > 1.8 * width[1]
    assert by_block > 0.8
    assert by_cell < 0.65


def test_blocks_do_not_matter_where_cells_are_independent():
    rng = np.random.default_rng(0)
    pos, right = rng.uniform(size=(2000, 2)), rng.uniform(size=2000) < 0.7
    low, high = block_bootstrap(lambda rows: right[rows].mean(), spatial_blocks(pos, n_blocks=100), n_draws=1000)
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.7 * 0.3 / 2000), rel=0.25)


def test_blocks_of_one_cell_are_the_usual_bootstrap():
    values = np.random.default_rng(0).normal(size=200)
    usual = bootstrap((values,), np.mean, method="percentile", n_resamples=2000, rng=np.random.default_rng(1))
    found = block_bootstrap(lambda rows: values[rows].mean(), np.arange(200), n_draws=2000)
    assert found == pytest.approx((usual.confidence_interval.low, usual.confidence_interval.high), abs=0.02)


def test_whole_blocks_are_drawn_as_many_as_there_are():
    blocks = np.array([4, -1, 4, 9, -1, 4])
    seen = []
    block_bootstrap(lambda rows: seen.append(rows) or 0.0, blocks, n_draws=50)
    assert len(seen) == 50
    for rows in seen:
        assert rows.dtype == np.int64
        times = np.bincount(rows, minlength=6)
        by_block = {b: set(times[blocks == b]) for b in (4, -1, 9)}
        assert all(len(t) == 1 for t in by_block.values())
        assert sum(t.pop() for t in by_block.values()) == 3
    assert len({tuple(np.sort(rows)) for rows in seen}) > 5


def test_a_seed_gives_the_same_interval_and_a_level_a_wider_one():
    values = np.random.default_rng(0).normal(size=100)

    def interval(**kwargs):
        return block_bootstrap(lambda rows: values[rows].mean(), np.arange(100) // 5, **kwargs)

    assert interval() == interval(random_state=0) != interval(random_state=1)
    low, high = interval(level=0.5)
    assert interval()[0] < low < high < interval()[1]


def test_draws_without_a_score_are_left_out():
    blocks = np.array([0, 1, 2])
    values = np.array([1.0, 1.0, np.nan])
    assert block_bootstrap(lambda rows: values[rows].sum(), blocks) == (3.0, 3.0)
    assert np.isnan(block_bootstrap(lambda rows: float("nan"), blocks)).all()


def test_one_block_tells_no_interval():
    assert np.isnan(block_bootstrap(lambda rows: 1.0, np.zeros(5, dtype=int))).all()


@given(
    seed=st.integers(0, 2**32 - 1), n_cells=st.integers(1, 80), n_blocks=st.integers(1, 12), on_lattice=st.booleans()
)
@settings(deadline=None, max_examples=60)
def test_blocks_are_of_nearly_equal_numbers_of_cells(seed, n_cells, n_blocks, on_lattice):
    rng = np.random.default_rng(seed)
    pos = rng.integers(4, size=(n_cells, 2)) if on_lattice else rng.normal(size=(n_cells, 2))
    n_blocks = min(n_blocks, n_cells)
    blocks = spatial_blocks(pos, n_blocks=n_blocks)
    count = np.bincount(blocks, minlength=n_blocks)
    assert blocks.shape == (n_cells,)
    assert len(count) == n_blocks
    assert count.max() - count.min() <= 1


def test_blocks_are_squares_of_a_square_whatever_the_order_of_the_cells():
    rng = np.random.default_rng(0)
    pos = rng.uniform(size=(4000, 2))
    blocks = spatial_blocks(pos, n_blocks=16)
    for b in range(16):
        assert np.ptp(pos[blocks == b], axis=0) == pytest.approx([0.25, 0.25], abs=0.06)
    order = rng.permutation(4000)
    np.testing.assert_array_equal(spatial_blocks(pos[order], n_blocks=16), blocks[order])


def test_the_longer_side_is_cut_first_and_rows_stay_in_one_piece():
    lattice = np.stack(np.divmod(np.arange(32), 4), axis=1)  # 8 by 4
    np.testing.assert_array_equal(spatial_blocks(lattice, n_blocks=2), lattice[:, 0] // 4)
    # A row that has to be shared is cut once.
    assert spatial_blocks([[0, 3], [0, 0], [0, 2], [0, 1], [-9, 0], [9, 0]], n_blocks=2).tolist() == [1, 0, 1, 0, 0, 1]


def test_the_interval_of_a_mean_is_students():
    values = np.random.default_rng(0).normal(size=7)
    expected = student.interval(0.9, 6, loc=values.mean(), scale=values.std(ddof=1) / np.sqrt(7))
    assert mean_interval(values, level=0.9) == pytest.approx(expected)
    assert mean_interval([2.0, 2.0]) == (2.0, 2.0)
    assert np.isnan(mean_interval([1.0])).all()
    assert np.isnan(mean_interval([1.0, np.nan, 2.0])).all()


@pytest.mark.parametrize(("n_slices", "seed_noise"), [(3, 0.3), (5, 1.5), (12, 0.3)])
def test_an_interval_over_slices_holds_the_mean_as_often_as_it_says(n_slices, seed_noise):
    rng = np.random.default_rng(0)
    slices, held = np.repeat(np.arange(n_slices), 3), 0
    for trial in range(400):
        values = rng.normal(size=n_slices)[slices] + seed_noise * rng.normal(size=len(slices))
        low, high = clustered_interval(values, slices, n_draws=500, random_state=trial)
        held += low <= 0 <= high
    assert 0.91 < held / 400 < 0.98


def test_more_seeds_on_a_slice_make_no_more_slices():
    rng = np.random.default_rng(0)
    of_slice = rng.normal(size=8)
    few = clustered_interval(of_slice, np.arange(8))
    many = clustered_interval(np.repeat(of_slice, 50), np.repeat(np.arange(8), 50))
    assert many == pytest.approx(few)
    assert many[1] - many[0] == pytest.approx(np.diff(mean_interval(of_slice))[0], rel=0.15)


def test_every_slice_weighs_the_same_and_may_have_any_name():
    values, slices = [0.0, 0.0, 0.0, 0.0, 1.0, 2.0], ["a"] * 4 + ["b", "c"]
    np.testing.assert_array_equal(group_means(values, slices), [0.0, 1.0, 2.0])
    low, high = clustered_interval(values, slices)
    assert (low + high) / 2 == pytest.approx(1.0, abs=0.1)
    assert clustered_interval(values, [7, 7, 7, 7, 3, 3.5])[0] < 0


def test_one_slice_tells_nothing_about_others_and_nan_is_not_dropped():
    assert np.isnan(clustered_interval([0.1, 0.2, 0.3], ["a"] * 3)).all()
    assert np.isnan(clustered_interval([0.1, np.nan, 0.3], ["a", "a", "b"])).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: block_bootstrap(lambda rows: 0.0, []), "block_bootstrap needs blocks of one number for each cell"),
        (lambda: block_bootstrap(lambda rows: 0.0, [0.5, 1.0]), "blocks as integer codes, not float64"),
        (lambda: block_bootstrap(lambda rows: 0.0, [0, 1], n_draws=0), "n_draws of at least 1, not 0"),
        (lambda: block_bootstrap(lambda rows: 0.0, [0, 1], level=95), "level between 0 and 1, as 0.95, not 95"),
        (lambda: spatial_blocks(np.ones((3, 2)), n_blocks=4), "n_blocks from 1 to 3, the number of cells, not 4"),
        (lambda: spatial_blocks(np.ones((3, 2)), n_blocks=0), "n_blocks from 1 to 3, the number of cells, not 0"),
        (lambda: spatial_blocks(np.ones((3, 3)), n_blocks=1), r"pos of shape \(any, 2\), cells in rows, not \(3, 3\)"),
        (lambda: mean_interval([]), r"a list of values, not an array of shape \(0,\)"),
        (lambda: mean_interval([1.0, 2.0], level=1.0), "mean_interval needs a level between 0 and 1"),
        (lambda: clustered_interval([1.0, 2.0], ["a"]), r"groups of shape \(1,\) for 2 values: give one for each"),
        (lambda: clustered_interval([1.0, 2.0], ["a", "b"], n_draws=0), "n_draws of at least 1, not 0"),
    ],
)
def test_what_tells_no_interval_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
