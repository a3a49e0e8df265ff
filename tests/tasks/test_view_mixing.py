import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stgraph.tasks.view_mixing import LEAST, POWERS, best_power, shares, sharpened


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0, 0.2))
def test_shares_are_a_mean_in_the_order_of_the_scores(scores, error):
    found = shares(scores, error)
    assert found.sum() == pytest.approx(1)
    assert found[int(np.argmax(scores))] == found.max()
    assert ((found == 0) | (found >= LEAST)).all()
    if error == 0:
        assert (found > 0).sum() == 1


def test_a_view_four_standard_errors_behind_counts_by_a_third():
    first, second = shares([0.5, 0.4], error=0.025)
    assert second / first == pytest.approx(np.exp(-1))


def test_powers_mend_heads_that_are_too_sure():
    rng = np.random.default_rng(0)
    chance = rng.dirichlet(np.ones(3), size=5000)
    truth = np.array([rng.choice(3, p=row) for row in chance])
    assert best_power(truth, chance) == 1.0
    for power in (0.5, 2.0):
        assert best_power(truth, sharpened(chance, power)) == 1 / power
    assert set(POWERS) >= {0.5, 1.0, 2.0}


def test_a_class_without_a_chance_keeps_none():
    said = sharpened(np.array([[0.0, 0.2, 0.8], [0.0, 1.0, 0.0]]), 0.5)
    assert (said[:, 0] == 0).all()
    assert np.allclose(said.sum(axis=1), 1)
