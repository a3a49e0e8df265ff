import numpy as np
import pymetis
import pytest
import scipy.sparse as sp

from stgraph.errors import InputError
from stgraph.graph.build import build_graph
from stgraph.graph.builders import KNN
from stgraph.graph.slice_graph import SliceGraph
from stgraph.partition.metis import Metis, metis_partition
from stgraph.partition.spatial import CoordinateBisection
from stgraph.testing.partitioners import PartitionerContract


class TestContract(PartitionerContract):
    make = staticmethod(Metis)


class TestWeightedContract(PartitionerContract):
    make = staticmethod(lambda part_size: Metis(part_size, node_weight="edges", edge_weight="proximity"))


@pytest.fixture
def seen(monkeypatch):
    """What METIS gets to see; every call is tested for being something METIS is defined on."""
    calls = []

    def part_graph(num_parts, adjacency, *, vweights, eweights, options):
        n = len(adjacency.adj_starts) - 1
        weights = np.ones(len(adjacency.adjacent)) if eweights is None else eweights
        matrix = sp.csr_matrix((weights, adjacency.adjacent, adjacency.adj_starts), shape=(n, n)).toarray()
        np.testing.assert_array_equal(matrix, matrix.T)
        assert (np.diag(matrix) == 0).all()
        assert 1 < num_parts < n
        assert matrix.any()
        assert (weights >= 1).all()
        assert vweights is None or (vweights >= 0).all()
        calls.append((matrix, vweights))
        return pymetis_part_graph(num_parts, adjacency, vweights=vweights, eweights=eweights, options=options)

    pymetis_part_graph = pymetis.part_graph
    monkeypatch.setattr(pymetis, "part_graph", part_graph)
    return calls


def cut(graph, partition):
    near = graph.near.tocoo()
    return (partition.membership[near.row] != partition.membership[near.col]).mean()


def test_cuts_fewer_edges_than_bisection(tissue):
    graph = build_graph(tissue, virtual_cells=None)
    assert cut(graph, Metis(60)(graph)) <= cut(graph, CoordinateBisection(60)(graph)) * 1.05


def test_metis_never_sees_a_directed_graph(seen):
    rng = np.random.default_rng(0)
    for _ in range(300):
        n = int(rng.integers(1, 25))
        adjacency = sp.random(n, n, density=rng.choice([0, 0.03, 0.2]), format="csr", random_state=rng)
        weights = [None, rng.random(adjacency.nnz), rng.integers(0, 5, adjacency.nnz)][rng.integers(3)]
        nodes = [None, rng.random(n), rng.integers(0, 3, n), np.zeros(n)][rng.integers(4)]
        num_parts = int(rng.integers(1, n + 4))
        membership = metis_partition(
            adjacency, num_parts, node_weights=nodes, edge_weights=weights, random_state=int(rng.integers(99))
        )
        assert membership.shape == (n,)
        assert membership.dtype == np.int64
        assert 0 <= membership.min() <= membership.max() < num_parts
    assert len(seen) > 100


def test_explicit_zeros_are_edges(seen):
    pos = np.repeat(np.arange(20.0), 2)[:, None] * [1.0, 0.0]
    near = KNN(3)(pos)
    assert (near.data == 0).any()
    metis_partition(near, 4)
    np.testing.assert_array_equal(seen[0][0] > 0, _pattern(near))


def test_more_parts_than_nodes():
    path = sp.diags([[1.0] * 4], [1], format="csr")
    for num_parts in (5, 6, 1000):
        assert sorted(metis_partition(path, num_parts)) == [0, 1, 2, 3, 4]


def test_no_edges_at_all():
    empty = sp.csr_matrix((6, 6))
    assert metis_partition(empty, 3).tolist() == [0, 0, 1, 1, 2, 2]
    assert metis_partition(empty, 2, node_weights=[5, 1, 1, 1, 1, 1]).tolist() == [0, 1, 1, 1, 1, 1]
    assert metis_partition(sp.csr_matrix((0, 0)), 3).tolist() == []


def test_node_weights_are_balanced(seen):
    """Half of a path weighs ten times as much: its parts have fewer nodes."""
    path = sp.diags([[1.0] * 399], [1], format="csr")
    weights = np.repeat([10.0, 1.0], 200)
    membership = metis_partition(path, 4, node_weights=weights)
    for part in range(4):
        assert weights[membership == part].sum() == pytest.approx(550, rel=0.05)
    assert (np.unique(seen[0][1], return_counts=True)[1] == 200).all()
    assert seen[0][1][0] == 10 * seen[0][1][-1]


def ring(lengths):
    n = len(lengths)
    return sp.csr_matrix((lengths, (np.arange(n) + 1) % n, np.arange(n + 1)), shape=(n, n))


def ends(membership):
    return np.flatnonzero(membership != np.roll(membership, -1)).tolist()


def test_edges_of_little_weight_are_cut():
    weights = np.ones(40)
    weights[[6, 26]] = 1e-3
    assert ends(metis_partition(ring(np.ones(40)), 2, edge_weights=weights)) == [6, 26]


def test_weights_become_whole_numbers(seen):
    path = sp.diags([[1.0] * 5], [1], format="csr")
    metis_partition(path, 2, edge_weights=[1e-12, 0.0, 0.25, 0.5, 1.0])
    assert np.diag(seen[0][0], 1).tolist() == [1, 1, 250_000, 500_000, 1_000_000]
    metis_partition(path, 2, edge_weights=[3, 1, 4, 1, 5])
    assert np.diag(seen[1][0], 1).tolist() == [3, 1, 4, 1, 5]
    metis_partition(path, 2, edge_weights=[7.5] * 5, node_weights=[0.1] * 6)
    assert np.diag(seen[2][0], 1).tolist() == [1] * 5
    assert seen[2][1] is None


def two_densities():
    """A dense patch and a sparse one: in the first, cells have more neighbours within the same radius."""
    rng = np.random.default_rng(0)
    pos = np.concatenate([rng.uniform(0, 10, (600, 2)), rng.uniform((10, 0), (20, 10), (200, 2))])
    near = _radius(pos, 1.0)
    return SliceGraph("s", np.zeros((800, 1), np.float32), pos, near, None, 0.25, "um")


def test_balanced_by_edges():
    graph = two_densities()
    spread = {}
    for weight in ("cells", "edges"):
        membership = Metis(100, node_weight=weight)(graph).membership
        edges = np.bincount(membership, weights=np.diff(graph.near.indptr))
        spread[weight] = edges.max() / edges.mean()
    assert spread["edges"] < 1.25 < spread["cells"]


def test_long_edges_are_cut(seen):
    lengths = np.zeros(40)
    lengths[[6, 26]] = [30.0, 60.0]
    graph = SliceGraph("s", np.zeros((40, 1), np.float32), np.zeros((40, 2)), ring(lengths), None, 30.0, "um")
    assert ends(Metis(20, edge_weight="proximity")(graph).membership) == [6, 26]
    np.testing.assert_array_equal(
        np.diag(seen[0][0], 1), [200_000 if i == 26 else 500_000 if i == 6 else 1_000_000 for i in range(39)]
    )


def test_parts_over_the_bound_are_bisected(monkeypatch):
    graph = two_densities()
    lopsided = np.repeat([0, 1, 5], [500, 151, 149])
    monkeypatch.setattr("stgraph.partition.metis.metis_partition", lambda *_, **__: lopsided)
    sizes = Metis(100)(graph).sizes
    assert sorted(sizes) == [75, 76, 100, 100, 100, 100, 100, 149]


def test_every_random_state_is_another():
    """To the C library, and so to METIS, seeds 0 and 1 are the same."""
    graph = two_densities()
    found = [Metis(50, random_state=seed)(graph).membership for seed in (0, 1, 2)]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert not np.array_equal(found[i][:, None] == found[i], found[j][:, None] == found[j])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"part_size": 0}, "part_size of at least 1, not 0"),
        ({"node_weight": "genes"}, "node_weight of 'cells' or 'edges', not 'genes'"),
        ({"edge_weight": "length"}, "edge_weight of 'unit' or 'proximity', not 'length'"),
    ],
)
def test_senseless_settings(arguments, message):
    with pytest.raises(InputError, match=message):
        Metis(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_parts": 0}, "at least 1 part, not 0"),
        ({"node_weights": [1.0, 2.0]}, r"one weight for each node, of shape \(4,\), not \(2,\)"),
        ({"edge_weights": [1.0, 2.0]}, r"one weight for each edge, of shape \(3,\), not \(2,\)"),
        ({"node_weights": [1.0, -2.0, 1.0, 1.0]}, "node weights of METIS must be finite and not negative"),
        ({"edge_weights": [1.0, np.nan, 1.0]}, "edge weights of METIS must be finite and not negative"),
        ({"edge_weights": [1.0, np.inf, 1.0]}, "edge weights of METIS must be finite and not negative"),
        ({"num_parts": 1, "edge_weights": [1, -1, 1]}, "edge weights of METIS must be finite and not negative"),
    ],
)
def test_unusable_input(arguments, message):
    path = sp.diags([[1.0] * 3], [1], format="csr")
    with pytest.raises(InputError, match=message):
        metis_partition(path, **({"num_parts": 2} | arguments))


def _pattern(near):
    pattern = np.zeros(near.shape, dtype=bool)
    pattern[np.repeat(np.arange(near.shape[0]), np.diff(near.indptr)), near.indices] = True
    return pattern


def _radius(pos, radius):
    distance = np.linalg.norm(pos[:, None] - pos, axis=2)
    np.fill_diagonal(distance, np.inf)
    return sp.csr_matrix(np.where(distance <= radius, distance, 0.0))
