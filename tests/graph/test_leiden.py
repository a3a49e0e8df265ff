import random
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import igraph
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.metrics import adjusted_rand_score

from stgraph.errors import InputError
from stgraph.graph.leiden import leiden

FLAVORS = ["igraph", "leidenalg"]


def planted(n=240, groups=4, seed=0):
    rng = np.random.default_rng(seed)
    group = rng.integers(0, groups, n)
    chance = np.where(group[:, None] == group, 0.3, 0.01)
    upper = np.triu(rng.random((n, n)) < chance, k=1) * rng.uniform(0.5, 1.5, (n, n))
    return group, sp.csr_matrix(upper + upper.T)


def modularity(weights, membership, resolution):
    """By the definition, with the diagonal counted in both directions already."""
    strength, total = weights.sum(axis=1), weights.sum()
    same = np.equal.outer(membership, membership)
    return float(((weights - resolution * np.outer(strength, strength) / total) * same).sum() / total)


@pytest.mark.parametrize("flavor", FLAVORS)
def test_planted_groups_are_found(flavor):
    group, graph = planted()
    found = leiden(graph, resolution=1.0, random_state=0, flavor=flavor)
    assert found.dtype == np.int64
    assert adjusted_rand_score(group, found) == 1.0


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("resolution", [0.3, 1.0, 2.0])
def test_largest_modularity_of_a_small_graph_with_heavy_loops(flavor, seed, resolution):
    rng = np.random.default_rng(seed)
    half = rng.integers(0, 6, (5, 5)) * (rng.random((5, 5)) < 0.7)
    weights = (half + half.T).astype(float)
    weights[np.diag_indices(5)] += rng.integers(0, 20, 5)
    found = leiden(sp.csr_matrix(weights), resolution=resolution, random_state=0, flavor=flavor)
    best = max(modularity(weights, np.array(m), resolution) for m in product(range(5), repeat=5))
    assert modularity(weights, found, resolution) == pytest.approx(best)


def test_weights_matter():
    path = np.diag([1.0, 9.0, 1.0], 1)
    assert leiden(sp.csr_matrix(path + path.T), resolution=1.5, random_state=0).tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize("flavor", FLAVORS)
def test_seed(flavor):
    rng = np.random.default_rng(0)
    noise = np.triu(rng.random((200, 200)) < 0.1, k=1).astype(float)  # no structure: every seed finds something else
    graph = sp.csr_matrix(noise + noise.T)
    runs = [leiden(graph, resolution=1.0, random_state=seed, flavor=flavor) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()


def test_one_round_is_not_all():
    rng = np.random.default_rng(0)
    noise = np.triu(rng.random((300, 300)) < 0.05, k=1).astype(float)
    graph = sp.csr_matrix(noise + noise.T)
    once, stable = (leiden(graph, resolution=1.0, random_state=0, n_iterations=n) for n in (1, -1))
    assert modularity(graph.toarray(), once, 1.0) < modularity(graph.toarray(), stable, 1.0)


def test_threads_draw_from_generators_of_their_own():
    _, graph = planted(groups=1)
    alone = [leiden(graph, resolution=2.0, random_state=seed) for seed in range(16)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda seed: leiden(graph, resolution=2.0, random_state=seed), range(16)))
    np.testing.assert_array_equal(together, alone)


def test_igraph_gets_its_own_generator_back_even_after_an_error():
    _, graph = planted()
    random.seed(3)
    expected = random.random()
    for resolution in (1.0, "wrong"):
        random.seed(3)
        if resolution == "wrong":
            with pytest.raises(TypeError):
                leiden(graph, resolution=resolution, random_state=0)
        else:
            leiden(graph, resolution=resolution, random_state=0)
        assert random.random() == expected
        random.seed(4)
        one = igraph.Graph.Erdos_Renyi(30, 0.5).get_edgelist()
        random.seed(4)
        assert igraph.Graph.Erdos_Renyi(30, 0.5).get_edgelist() == one


@pytest.mark.parametrize("flavor", FLAVORS)
def test_without_edges_everyone_is_alone(flavor):
    assert leiden(sp.csr_matrix((3, 3)), resolution=1.0, random_state=0, flavor=flavor).tolist() == [0, 1, 2]
    assert leiden(sp.csr_matrix((0, 0)), resolution=1.0, random_state=0, flavor=flavor).tolist() == []


@pytest.mark.parametrize("flavor", FLAVORS)
def test_loops_alone(flavor):
    assert leiden(sp.eye(3, format="csr"), resolution=1.0, random_state=0, flavor=flavor).tolist() == [0, 1, 2]


def test_unknown_flavor():
    with pytest.raises(InputError, match="flavor must be 'igraph' or 'leidenalg', not 'louvain'"):
        leiden(sp.eye(3, format="csr"), resolution=1.0, random_state=0, flavor="louvain")


def test_not_square():
    with pytest.raises(InputError, match=r"square.*\(3, 2\)"):
        leiden(sp.csr_matrix((3, 2)), resolution=1.0, random_state=0)
