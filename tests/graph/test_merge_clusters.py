import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph.graph.merge_clusters import contract, merge_clusters
from stgraph.graph.virtual_cells import aggregate


def clusters_at(pos, sizes=None):
    pos = np.asarray(pos, dtype=float)
    sizes = np.ones(len(pos), dtype=int) if sizes is None else np.asarray(sizes)
    cell = np.repeat(np.arange(len(pos)), sizes)
    return aggregate(cell, np.zeros((len(cell), 1)), pos[cell])


def test_contract_by_brute_force():
    rng = np.random.default_rng(0)
    graph = sp.random(30, 30, 0.2, random_state=0, format="csr")
    membership = rng.permutation(np.arange(30) % 4)
    expected = [[graph.toarray()[membership == a][:, membership == b].sum() for b in range(4)] for a in range(4)]
    np.testing.assert_allclose(contract(graph, membership).toarray(), expected)


@given(
    v=st.integers(1, 60),
    most=st.integers(1, 60),
    density=st.sampled_from([0.0, 0.02, 0.1, 1.0]),
    seed=st.integers(0, 99),
)
@settings(max_examples=80, deadline=None)
def test_the_cap_always_holds(v, most, density, seed):
    rng = np.random.default_rng(seed)
    half = np.triu(rng.integers(1, 9, (v, v)) * (rng.random((v, v)) < density)).astype(float)
    clusters = clusters_at(rng.integers(0, 9, (v, 2)), rng.integers(1, 9, v))
    merged = merge_clusters(clusters, sp.csr_matrix(half + half.T), most, resolution=1.0, alpha=0.5, random_state=0)
    assert merged.shape == (v,)
    assert set(merged.tolist()) == set(range(merged.max() + 1))
    assert merged.max() < most
    if v <= most:
        np.testing.assert_array_equal(merged, np.arange(v))


def test_no_fewer_than_need_be():
    rng = np.random.default_rng(0)
    pos = rng.random((300, 2))
    near = np.exp(-np.square(pos[:, None] - pos).sum(axis=2) / 0.002)
    merged = merge_clusters(clusters_at(pos), sp.csr_matrix(near), 40, resolution=30.0, alpha=0.0, random_state=0)
    assert 32 < merged.max() + 1 <= 40


def test_what_is_connected_is_merged_first():
    weights = np.kron(np.eye(3), np.full((3, 3), 5.0)) + 0.1
    clusters = clusters_at(np.random.default_rng(0).random((9, 2)))
    merged = merge_clusters(clusters, sp.csr_matrix(weights), 3, resolution=3.0, alpha=0.5, random_state=0)
    assert merged.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("small", [30, 300])
def test_fragments_go_to_the_nearest_and_leave_the_tissue_its_own_clusters(small):
    rng = np.random.default_rng(0)
    pos = np.concatenate([rng.uniform(0, 100, (20, 2)), rng.uniform([150, 50], [151, 51], (small, 2))])
    sizes = np.concatenate([np.full(20, 500), np.full(small, 3)])
    weights = np.zeros((len(pos), len(pos)))
    weights[:20, :20] = np.exp(-np.square(pos[:20, None] - pos[:20]).sum(axis=2) / 200)
    weights[np.arange(20, len(pos)), np.arange(20, len(pos))] = 1.0
    merged = merge_clusters(
        clusters_at(pos, sizes), sp.csr_matrix(weights), 16, resolution=4.0, alpha=0.0, random_state=0
    )
    assert merged.max() < 16
    assert len(set(merged[:20].tolist())) >= 8
    assert len(set(merged[20:].tolist())) <= 4


def test_alpha_says_what_is_near():
    cell = np.repeat(np.arange(5), [9, 8, 3, 2, 1])
    kind, place = np.array([0.0, 9.0, 1.0, 1.1, 1.2])[cell], np.array([0.0, 9.0, 8.0, 8.1, 8.2])[cell]
    clusters = aggregate(cell, kind[:, None], np.stack([place, place], axis=1))
    loose = sp.eye(5, format="csr")  # no edges at all, so that only what is near can be joined
    by_kind, by_place = (
        merge_clusters(clusters, loose, 2, resolution=1.0, alpha=alpha, random_state=0).tolist() for alpha in (1, 0)
    )
    assert by_kind == [0, 1, 0, 0, 0]
    assert by_place == [0, 1, 1, 1, 1]
