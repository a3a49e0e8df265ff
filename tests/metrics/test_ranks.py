import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import friedmanchisquare, rankdata

from stgraph.errors import InputError
from stgraph.metrics.intervals import clustered_interval
from stgraph.metrics.ranks import cliques, friedman, mean_ranks, nemenyi_distance, paired_difference


@given(seed=st.integers(0, 2**32 - 1), n_data=st.integers(1, 12), n_methods=st.integers(3, 7))
@settings(deadline=None, max_examples=60)
def test_agrees_with_scipy_with_many_ties(seed, n_data, n_methods):
    table = np.random.default_rng(seed).integers(4, size=(n_data, n_methods)) / 4
    expected = np.mean([rankdata(-row) for row in table], axis=0)
    np.testing.assert_allclose(mean_ranks(table), expected)
    np.testing.assert_allclose(mean_ranks(table, higher_is_better=False), n_methods + 1 - expected)
    if (np.ptp(table, axis=1) > 0).any():
        assert friedman(table) == pytest.approx(tuple(friedmanchisquare(*table.T)))


def test_the_worked_example_of_the_paper():
    """Demšar (2006): AUC of C4.5 and its three variants on 14 data sets, and what he found.

    His ranks tell 0.975 and 0.975 of the thirteenth data set apart, by digits not printed: hence 0.9751.
    """
    table = [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
    ranks = mean_ranks(table)
    np.testing.assert_allclose(ranks, [3.143, 2.000, 2.893, 1.964], atol=5e-4)
    # The 9.28 of the paper leaves out the correction for ties.
    assert 12 * 14 / (4 * 5) * ((ranks**2).sum() - 4 * 5**2 / 4) == pytest.approx(9.28, abs=0.005)
    assert friedman(table) == pytest.approx(tuple(friedmanchisquare(*np.transpose(table))))
    assert friedman(table)[0] > 9.28
    assert nemenyi_distance(4, 14) == pytest.approx(1.25, abs=0.005)
    assert nemenyi_distance(4, 14, alpha=0.10) == pytest.approx(1.12, abs=0.005)


def test_a_method_that_failed_comes_last_and_shares_this_with_others_that_did():
    nan = float("nan")
    np.testing.assert_array_equal(mean_ranks([[0.1, nan, 0.2, nan]]), [2, 3.5, 1, 3.5])
    np.testing.assert_array_equal(mean_ranks([[0.1, nan, 0.2, nan]], higher_is_better=False), [1, 3.5, 2, 3.5])
    np.testing.assert_array_equal(mean_ranks([[0.9, nan], [0.1, 0.2]]), [1.5, 1.5])


def test_the_table_is_left_as_it_is():
    table = np.array([[0.1, np.nan], [0.3, 0.2]])
    before = table.copy()
    mean_ranks(table, higher_is_better=False)
    np.testing.assert_array_equal(table, before)


def test_equal_methods_give_no_evidence():
    assert friedman(np.ones((5, 3))) == (0.0, 1.0)
    np.testing.assert_array_equal(mean_ranks(np.ones((5, 3))), [2, 2, 2])


def test_two_methods_can_be_tested_too():
    # Its square root is that of a sign test: (10 - 0)^2 / 10.
    assert friedman([[1.0, 0.0]] * 10)[0] == pytest.approx(10)


@pytest.mark.parametrize(
    ("n_methods", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (8, 3.031), (10, 3.164)]
)
def test_the_critical_difference_has_the_published_quantiles(n_methods, q):
    """Table 5a of Demšar (2006), at 0.05."""
    assert nemenyi_distance(n_methods, 1) == pytest.approx(q * np.sqrt(n_methods * (n_methods + 1) / 6), abs=2e-3)
    assert nemenyi_distance(n_methods, 16) == pytest.approx(nemenyi_distance(n_methods, 1) / 4)


@given(ranks=st.lists(st.integers(2, 16), min_size=1, max_size=8), distance=st.integers(0, 8))
@settings(deadline=None, max_examples=80)
def test_cliques_are_the_maximal_groups_nearer_than_the_distance(ranks, distance):
    ranks = np.array(ranks) / 2
    found = cliques(ranks, distance)
    windows = [frozenset(np.flatnonzero((ranks >= low) & (ranks < low + distance))) for low in ranks]
    maximal = {w for w in windows if len(w) > 1 and not any(w < other for other in windows)}
    assert {frozenset(group) for group in found} == maximal
    assert len(found) == len(maximal)
    for group in found:
        assert (np.diff(ranks[list(group)]) >= 0).all()


def test_methods_at_exactly_the_distance_differ():
    assert cliques([1.0, 2.0], distance=1.0) == []
    assert cliques([2.0, 1.0], distance=1.01) == [(1, 0)]


def test_a_difference_is_paired():
    rng = np.random.default_rng(0)
    slices = np.repeat(np.arange(8), 3)
    hard = rng.normal(size=8)[slices]
    ours, other = hard + 0.1 + 0.02 * rng.normal(size=24), hard + 0.02 * rng.normal(size=24)
    mean, low, high = paired_difference(ours, other, slices)
    assert 0 < low < mean < high < 0.2
    assert mean == pytest.approx((ours - other).mean())
    assert (low, high) == clustered_interval(ours - other, slices)
    back = paired_difference(other, ours, slices, random_state=1, level=0.9)
    assert back[0] == pytest.approx(-mean)
    assert -high < back[1] < back[2] < -low


def test_no_difference_is_not_found():
    rng = np.random.default_rng(0)
    found = 0
    for trial in range(200):
        ours, other = rng.normal(size=(2, 5))
        _, low, high = paired_difference(ours, other, np.arange(5), n_draws=500, random_state=trial)
        found += low > 0 or high < 0
    assert found / 200 < 0.1


def test_a_difference_weighs_slices_alike_and_keeps_nan():
    assert paired_difference([1.0, 1.0, 4.0], [0.0, 0.0, 0.0], ["a", "a", "b"])[0] == 2.5
    assert np.isnan(paired_difference([1.0, np.nan], [0.0, 0.0], ["a", "b"])).all()
    mean, low, high = paired_difference([1.0, 3.0], [0.0, 0.0], ["a", "a"])
    assert mean == 2
    assert np.isnan([low, high]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_ranks([[0.1, 0.2], [np.nan, np.nan]]), "No method has a score on data set 1: leave it out"),
        (lambda: mean_ranks([0.1, 0.2]), r"a table of data sets by at least two methods, not of shape \(2,\)"),
        (lambda: friedman([[0.1], [0.2]]), r"at least two methods, not of shape \(2, 1\)"),
        (lambda: nemenyi_distance(1, 5), "two methods and a data set, not 1 and 5"),
        (lambda: nemenyi_distance(3, 0), "two methods and a data set, not 3 and 0"),
        (lambda: nemenyi_distance(3, 5, alpha=5), "alpha between 0 and 1, as 0.05, not 5"),
        (lambda: cliques([1.0, np.nan], 1.0), "one finite rank for each method"),
        (lambda: cliques([1.0, 2.0], -1.0), "a distance of 0 or more, not -1"),
        (lambda: paired_difference([1.0, 2.0], [1.0], ["a", "b"]), r"shapes \(2,\) and \(1,\): they must be in pairs"),
        (lambda: paired_difference([1.0, 2.0], [1.0, 2.0], ["a"]), "give one for each"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
