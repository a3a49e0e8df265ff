import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph.graph.cell_order import canonical_order


@given(
    st.integers(1, 40),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(0, 1000),
)
@settings(max_examples=80, deadline=None)
def test_sorted_by_all_features_in_turn(n, channels, values, seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(1 - values, values, (n, channels)).astype(float)
    order = canonical_order(x, rng.random((n, 2)))
    assert sorted(order.tolist()) == list(range(n))
    assert abs(x[order]).tolist() == sorted(abs(x).tolist())


@given(st.integers(2, 40), st.integers(1, 3), st.integers(0, 1000))
@settings(max_examples=80, deadline=None)
def test_permuted_cells_come_in_the_same_order(n, values, seed):
    rng = np.random.default_rng(seed)
    x, pos = rng.integers(1 - values, values, (n, 2)).astype(float), rng.integers(0, 3, (n, 2)).astype(float)
    permuted = rng.permutation(n)
    one, other = canonical_order(x, pos), canonical_order(x[permuted], pos[permuted])
    np.testing.assert_array_equal(x[one], x[permuted][other])
    np.testing.assert_array_equal(pos[one], pos[permuted][other])


@given(st.integers(1, 40), st.lists(st.sampled_from([-1, 1]), min_size=3, max_size=3), st.integers(0, 1000))
@settings(max_examples=80, deadline=None)
def test_the_sign_of_a_feature_does_not_matter(n, signs, seed):
    rng = np.random.default_rng(seed)
    x, pos = rng.integers(-1, 2, (n, 3)).astype(float), rng.random((n, 2))
    np.testing.assert_array_equal(canonical_order(x, pos), canonical_order(x * signs, pos))


def test_turned_slices_come_in_the_same_order_even_if_all_features_tie():
    pos = np.random.default_rng(0).uniform(0, 1000, (200, 2))
    turned = pos @ np.array([[0.6, -0.8], [0.8, 0.6]]).T + 3e3
    np.testing.assert_array_equal(canonical_order(np.ones((200, 3)), pos), canonical_order(np.ones((200, 3)), turned))


def test_no_cells():
    assert canonical_order(np.empty((0, 3)), np.empty((0, 2))).tolist() == []
