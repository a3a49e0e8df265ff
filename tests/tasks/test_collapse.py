"""Features that are alike for all cells."""

import warnings

import numpy as np
import pytest

from stgraph.errors import StgraphWarning
from stgraph.tasks.collapse import told_apart, warn_of_collapse


def test_told_apart():
    x = np.random.default_rng(0).normal(size=(200, 5))
    assert told_apart(x - x.mean(axis=0)) == pytest.approx(1)
    assert told_apart(np.repeat(x[:1], 9, axis=0)) == pytest.approx(0, abs=1e-12)
    assert told_apart(np.zeros((3, 2))) == 0
    # One axis of two, each of the same length: half.
    assert told_apart(np.array([[1.0, 1.0], [1.0, -1.0]])) == pytest.approx(0.5)
    assert told_apart(x * 7) == pytest.approx(told_apart(x))


def test_said_only_where_it_is_so():
    x = np.random.default_rng(0).normal(size=(50, 5)).astype(np.float32)
    with pytest.warns(StgraphWarning, match="a: the features are alike for all cells"):
        warn_of_collapse(100 + 0.01 * x, "a: the features")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_collapse(x, "a: the features")
        warn_of_collapse(100 + x, "a: what all cells have in common harms no head")
        warn_of_collapse(x[:1], "a: one cell")


def test_advice_is_of_what_was_trained():
    x = np.ones((5, 2))
    with pytest.warns(StgraphWarning, match="Try a smaller lr"):
        warn_of_collapse(x, "a")
    with pytest.warns(StgraphWarning, match="Try target=cached for the joint stage, a smaller lr"):
        warn_of_collapse(x, "a", joint=True)
