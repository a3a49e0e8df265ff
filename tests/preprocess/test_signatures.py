import numpy as np
import pytest
import scipy.sparse as sp

from stgraph.errors import InputError
from stgraph.preprocess.signatures import marker_genes, type_profiles


def test_profiles_are_means_over_the_cells_of_a_type():
    rng = np.random.default_rng(0)
    counts, types = rng.poisson(2.0, (60, 7)), rng.integers(-1, 3, 60)
    profiles = type_profiles(sp.csr_matrix(counts), types, 4)
    for k in range(3):
        np.testing.assert_allclose(profiles[k], counts[types == k].mean(axis=0))
    assert not profiles[3].any()  # a type without cells


def test_markers_by_brute_force():
    rng = np.random.default_rng(1)
    profiles = rng.gamma(0.5, 2.0, (4, 30))
    share = profiles / profiles.sum(axis=1, keepdims=True) + 1e-6
    best = set()
    for k in range(4):
        ratio = share[k] / np.delete(share, k, axis=0).max(axis=0)
        best |= set(np.argsort(-ratio)[:3].tolist())
    assert marker_genes(profiles, 3).tolist() == sorted(best)


def test_markers_are_expressed_whatever_type_lacks_cells():
    profiles = np.array([[5.0, 1.0, 0.0, 2.0], [1.0, 5.0, 0.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    assert marker_genes(profiles, 1).tolist() == [0, 1]
    assert marker_genes(profiles, 50).tolist() == [0, 1, 3]


def test_nothing_to_learn_from_is_said():
    with pytest.raises(InputError, match="No cell of the reference has a type"):
        type_profiles(sp.csr_matrix([[1, 2]]), np.array([-1]), 2)
    with pytest.raises(InputError, match="No gene is expressed in the reference"):
        marker_genes(np.zeros((2, 3)), 5)
