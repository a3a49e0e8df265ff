import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from stgraph.errors import StgraphWarning
from stgraph.tasks.simplex import SimplexRidge, onto_simplex, shares_of

matrices = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.floats(-50, 50))


@given(matrices, st.integers(0, 100))
def test_nearest_proportions(values, seed):
    found = onto_simplex(values)
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    any_point = np.random.default_rng(seed).dirichlet(np.ones(values.shape[1]), len(values))
    assert (((found - values) ** 2).sum(axis=1) <= ((any_point - values) ** 2).sum(axis=1) + 1e-9).all()
    before, after = ((values - any_point) ** 2).sum(axis=1), ((found - any_point) ** 2).sum(axis=1)
    assert (after <= before + 1e-9).all()
    np.testing.assert_allclose(onto_simplex(any_point), any_point, atol=1e-12)


@given(arrays(np.float64, (4, 3), elements=st.floats(0, 1e6)))
def test_shares_are_proportions(weights):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StgraphWarning)
        shares = shares_of(weights)
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)


def test_a_spot_without_weights_gets_the_mean_aloud():
    with pytest.warns(StgraphWarning, match="1 of 3 spots"):
        shares = shares_of(np.array([[1.0, 3.0], [0.0, 0.0], [1.0, 0.0]]))
    np.testing.assert_allclose(shares[1], [0.625, 0.375])


def test_ridge_predicts_proportions():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 5)), rng.dirichlet(np.ones(4), 80)
    said = SimplexRidge(alpha=0.1).fit(x, y).predict(x * 10)
    assert (said >= 0).all()
    np.testing.assert_allclose(said.sum(axis=1), 1.0)
