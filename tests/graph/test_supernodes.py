from itertools import combinations

import networkx as nx
import numpy as np
import pytest

from stgraph.errors import InputError
from stgraph.graph.builders import KNN
from stgraph.graph.hierarchy import Hierarchical
from stgraph.graph.slice_graph import SliceGraph
from stgraph.graph.supernodes import supernode_graph
from stgraph.graph.virtual_cells import JointLeiden, aggregate


def slice_graph(n=300, *, symmetric=True, hierarchical=True, coincident=False):
    rng = np.random.default_rng(0)
    x, pos = rng.normal(size=(n, 3)).astype(np.float32), rng.uniform(0, 100, (n, 2))
    if coincident:
        pos[1::2] = pos[::2]
    base = JointLeiden(alpha=0.5, resolution=2.0)
    virtual = (Hierarchical(base, max_coarse=(6, 2)) if hierarchical else base)(x, pos)
    return SliceGraph("a", x, pos, KNN(6, symmetric=symmetric)(pos), virtual, spacing=1.0, unit="um")


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("coincident", [True, False])
def test_edges_by_brute_force(symmetric, coincident):
    graph = slice_graph(symmetric=symmetric, coincident=coincident)
    exported = supernode_graph(graph)
    linked = np.zeros(graph.near.shape, dtype=bool)
    linked[graph.near.nonzero()] = True
    linked[np.repeat(np.arange(len(graph.pos)), np.diff(graph.near.indptr)), graph.near.indices] = True
    pairs = np.argwhere(np.triu(linked | linked.T))
    membership, first, virtual, n_edges = np.arange(len(graph.pos)), 0, graph.virtual, 0
    while virtual is not None:
        membership = virtual.membership[membership]
        for a, b in combinations(range(len(virtual)), 2):
            weight = sum({membership[i], membership[j]} == {a, b} for i, j in pairs)
            assert exported.has_edge(first + a, first + b) == (weight > 0)
            if weight:
                edge = exported.edges[first + a, first + b]
                assert edge["weight"] == weight
                assert edge["kind"] == "near"
                assert edge["distance"] == pytest.approx(np.linalg.norm(virtual.pos[a] - virtual.pos[b]))
                n_edges += 1
        first, virtual = first + len(virtual), virtual.parent
    near = [edge for edge in exported.edges(data=True) if edge[2]["kind"] == "near"]
    assert len(near) == n_edges
    assert not any(a == b for a, b in exported.edges)


def test_nodes_and_parents():
    graph = slice_graph()
    exported = supernode_graph(graph)
    virtual, parent, top = graph.virtual, graph.virtual.parent, graph.virtual.parent.parent
    v, p = len(virtual), len(parent)
    assert sorted(exported.nodes) == list(range(v + p + len(top)))
    for node, where, which in ((1, virtual, 1), (v + 2, parent, 2), (v + p, top, 0)):
        attributes = exported.nodes[node]
        assert (attributes["x"], attributes["y"]) == tuple(where.pos[which])
        assert attributes["num_cells"] == where.num_cells[which]
    assert [exported.nodes[node]["level"] for node in (0, v, v + p)] == [0, 1, 2]
    members = {frozenset(edge[:2]) for edge in exported.edges(data="kind") if edge[2] == "member_of"}
    expected = {frozenset((c, v + m)) for c, m in enumerate(parent.membership.tolist())}
    expected |= {frozenset((v + c, v + p + m)) for c, m in enumerate(top.membership.tolist())}
    assert members == expected
    step = exported.edges[3, v + int(parent.membership[3])]
    assert step["distance"] == pytest.approx(np.linalg.norm(virtual.pos[3] - parent.pos[parent.membership[3]]))
    assert "weight" not in step
    assert exported.graph == {"slice_id": "a", "unit": "um"}


def test_plain_values_survive_graphml(tmp_path):
    exported = supernode_graph(slice_graph())
    for attributes in [a for _, a in exported.nodes(data=True)] + [a for *_, a in exported.edges(data=True)]:
        assert {type(value) for value in attributes.values()} <= {int, float, str}
    nx.write_graphml(exported, tmp_path / "nodes.graphml")
    read = nx.read_graphml(tmp_path / "nodes.graphml", node_type=int)
    assert dict(read.nodes(data=True)) == dict(exported.nodes(data=True))
    assert nx.utils.edges_equal(read.edges(data=True), exported.edges(data=True))


def test_one_level():
    graph = slice_graph(hierarchical=False)
    exported = supernode_graph(graph)
    assert len(exported) == len(graph.virtual)
    assert {kind for *_, kind in exported.edges(data="kind")} == {"near"}


def test_one_virtual_cell():
    graph = slice_graph(hierarchical=False)
    alone = aggregate(np.zeros(300, dtype=int), graph.x, graph.pos)
    exported = supernode_graph(SliceGraph("a", graph.x, graph.pos, graph.near, alone, spacing=1.0, unit="um"))
    assert exported.number_of_edges() == 0
    assert exported.nodes[0]["num_cells"] == 300


def test_without_virtual_cells():
    graph = slice_graph(hierarchical=False)
    with pytest.raises(InputError, match="a: the graph has no virtual cells"):
        supernode_graph(SliceGraph("a", graph.x, graph.pos, graph.near, None, spacing=1.0, unit="um"))
