"""DGL and networkx: there and back without loss."""

import copy
import os
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data, HeteroData

from stgraph.data.convert import NEAR, to_hetero_data
from stgraph.data.dgl import from_dgl, to_dgl
from stgraph.data.networkx import from_networkx, to_networkx
from stgraph.data.parts import part_data
from stgraph.errors import InputError
from stgraph.graph.build import build_graph
from stgraph.partition.halo import part_with_halo


def _has_dgl():
    os.environ["DGLBACKEND"], before = "pytorch", os.environ.get("DGLBACKEND")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import dgl  # noqa: F401
    except ImportError:
        return False
    finally:
        if before is None:
            del os.environ["DGLBACKEND"]
    return True


HAS_DGL = _has_dgl()
needs_dgl = pytest.mark.skipif(not HAS_DGL, reason="dgl is not installed: pip install 'stgraph[dgl]'")

WAYS = [
    pytest.param((to_dgl, from_dgl), marks=needs_dgl, id="dgl"),
    pytest.param((to_networkx, from_networkx), id="networkx"),
]


@pytest.fixture(params=WAYS)
def way(request):
    to, back = request.param
    return lambda data: back(to(data))


def test_a_slice_with_levels(layered, way, assert_same):
    data = to_hetero_data(layered)
    before = copy.deepcopy(data)
    assert_same(way(data), before)
    assert_same(data, before)
    assert way(data).slice_id == layered.slice_id


def test_a_part_without_informs(layered, way, assert_same):
    data = part_data(layered, part_with_halo(layered, np.arange(30), 1), informs=False)
    assert_same(way(data), data)


def test_without_virtual_cells(tissue, way, assert_same):
    data = to_hetero_data(build_graph(tissue, virtual_cells=None))
    back = way(data)
    assert_same(back, data)
    assert back["virtual"].num_nodes == 0


def test_a_batch_is_told_apart_again(layered, way, assert_same):
    parts = [part_data(layered, part_with_halo(layered, np.arange(b, b + 9), 0)) for b in (0, 20)]
    batch = Batch.from_data_list(parts)
    back = way(batch)
    assert_same(back, batch)
    assert (type(back), back.num_graphs, back.slice_id) == (type(batch), 2, [layered.slice_id] * 2)
    for part, again in zip(parts, back.to_data_list(), strict=True):
        assert_same(again, part)


DTYPES = [torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8, torch.bool, torch.float16]


@settings(deadline=None, max_examples=40)
@given(draw=st.data())
@pytest.mark.parametrize("both", WAYS)
def test_anything_comes_back_to_the_bit(both, assert_same, draw):
    to, back = both
    rng = np.random.default_rng(draw.draw(st.integers(0, 2**32 - 1)))

    def tensor(count):
        shape = (count, *draw.draw(st.sampled_from([(), (1,), (3,), (2, 2), (0,)])))
        return torch.from_numpy(rng.normal(size=shape) * 3).to(draw.draw(st.sampled_from(DTYPES)))

    data = HeteroData()
    data.slice_id = draw.draw(st.text(max_size=5))
    data.names = ["a", "b"]
    data.number, data.nothing, data.scalar = 7, None, torch.tensor(0.1)
    data.origin = torch.tensor([[1e8, 0.1]], dtype=torch.float64)
    for kind in ("zebra", "ant"):
        data[kind].x = tensor(draw.draw(st.integers(0, 4)))
        data[kind].tag = tensor(data[kind].num_nodes)
        data[kind].whole = "text"
    for source, relation, target in (("zebra", "b", "ant"), ("ant", "a", "ant"), ("ant", "b", "zebra")):
        possible = data[source].num_nodes * data[target].num_nodes
        count = draw.draw(st.integers(0, 5)) if possible else 0  # repeats and loops among them
        ends = [rng.integers(0, max(1, data[kind].num_nodes), count) for kind in (source, target)]
        data[source, relation, target].edge_index = torch.from_numpy(np.stack(ends))
        data[source, relation, target].edge_attr = tensor(count)
        data[source, relation, target].setting = {"k": 3}
    assert_same(back(to(data)), data)


def test_networkx_holds_what_it_says(layered):
    data = to_hetero_data(layered)
    network = to_networkx(data)
    assert network.number_of_nodes() == sum(data[kind].num_nodes for kind in data.node_types)
    assert network.number_of_edges() == sum(data[edge_type].num_edges for edge_type in data.edge_types)
    source, target = data[NEAR].edge_index[:, 5].tolist()
    edge = network.edges[("cell", source), ("cell", target), ("near", 5)]
    assert edge["edge_attr"] == data[NEAR].edge_attr[5].numpy()
    np.testing.assert_array_equal(network.nodes["cell", 3]["x"], layered.x[3])
    assert network.nodes["virtual", 0]["num_cells"] == layered.virtual.num_cells[0]
    assert (network.graph["slice_id"], network.graph["unit"]) == (layered.slice_id, "um")


def test_nodes_taken_out_of_networkx(layered):
    data = to_hetero_data(layered, informs=False)
    network = to_networkx(data)
    network.remove_nodes_from([("cell", i) for i in range(10)])
    back = from_networkx(network)
    expected = data.subgraph({"cell": torch.arange(10, 320)})
    assert torch.equal(back["cell"].x, expected["cell"].x)
    assert torch.equal(back[NEAR].edge_index, expected[NEAR].edge_index)
    assert torch.equal(back[NEAR].edge_attr, expected[NEAR].edge_attr)


def test_a_batch_with_nodes_taken_out_is_one_graph(layered):
    parts = [part_data(layered, part_with_halo(layered, np.arange(b, b + 9), 0), informs=False) for b in (0, 20)]
    network = to_networkx(Batch.from_data_list(parts))
    network.remove_node(("cell", 0))
    back = from_networkx(network)
    assert type(back) is HeteroData
    assert back["cell"].batch.tolist() == [0] * 8 + [1] * 9


def test_a_count_of_nodes_follows_their_number():
    data = HeteroData()
    data["a"].num_nodes = 5
    data["a", "to", "a"].edge_index = torch.tensor([[0, 1], [1, 2]])
    network = to_networkx(data)
    network.remove_node(("a", 0))
    back = from_networkx(network)
    assert back["a"].num_nodes == 4
    assert back["a", "to", "a"].edge_index.tolist() == [[0], [1]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda network: network.add_node("cell 5"), "node 'cell 5' is not named as to_networkx does"),
        (lambda network: network.add_node(5), "node 5 is not named"),
        (lambda network: network.add_node(("patch", 0)), r"node \('patch', 0\) is not named"),
        (lambda network: network.add_edge(("cell", 0), ("cell", 1)), "has the key 0, not one as to_networkx gives"),
        (lambda network: network.add_edge(("cell", 0), ("cell", 1), ("far", 0)), r"has the key \('far', 0\)"),
        (lambda network: network.nodes["virtual", 0].update(num_cells=2.5), "'num_cells' of one of virtual is 2.5"),
        (lambda network: network.nodes["cell", 0].update(pos=np.ones(3)), r"of type float32 and shape \(2,\)"),
        (lambda network: network.nodes["cell", 0].update(owned="yes"), "of type bool and shape"),
    ],
)
def test_changes_that_cannot_be_told(layered, change, message):
    network = to_networkx(to_hetero_data(layered, informs=False))
    change(network)
    with pytest.raises(InputError, match=message):
        from_networkx(network)


def test_values_changed_in_networkx(layered):
    network = to_networkx(to_hetero_data(layered, informs=False))
    network.nodes["virtual", 0]["num_cells"] = 7
    network.nodes["cell", 3]["pos"] = [1, 2]
    back = from_networkx(network)
    assert back["virtual"].num_cells[0] == 7
    assert back["cell"].pos[3].tolist() == [1.0, 2.0]


def test_what_networkx_cannot_tell_is_refused(layered):
    import networkx as nx

    with pytest.raises(InputError, match="not made by to_networkx"):
        from_networkx(nx.MultiDiGraph())
    network = to_networkx(to_hetero_data(layered, informs=False))
    del network.nodes["cell", 4]["pos"]
    with pytest.raises(InputError, match="Some of cell have no 'pos'"):
        from_networkx(network)


@pytest.mark.parametrize("to", [pytest.param(to_dgl, marks=needs_dgl), to_networkx])
def test_what_cannot_be_converted_is_refused(layered, to):
    with pytest.raises(InputError, match="takes a HeteroData, such as to_hetero_data gives, not Data"):
        to(Data())
    data = to_hetero_data(layered)
    del data[NEAR].edge_index
    with pytest.raises(InputError, match="have no edge_index"):
        to(data)
    empty = HeteroData()
    empty["cell"].label = "a"
    with pytest.raises(InputError, match="how many 'cell' nodes"):
        to(empty)


def test_a_type_that_numpy_does_not_know(layered):
    data = to_hetero_data(layered, informs=False)
    data["cell"].x = data["cell"].x.bfloat16()
    with pytest.raises(InputError, match=r"'x' is of type torch\.bfloat16"):
        to_networkx(data)


@needs_dgl
def test_dgl_holds_what_it_says(layered):
    data = to_hetero_data(layered)
    graph = to_dgl(data)
    assert set(graph.canonical_etypes) == set(data.edge_types)
    assert torch.equal(graph.nodes["cell"].data["x"], data["cell"].x)
    assert torch.equal(graph.edges[NEAR].data["edge_attr"], data[NEAR].edge_attr)
    assert torch.equal(torch.stack(graph.edges(etype=NEAR, order="eid")), data[NEAR].edge_index)


@needs_dgl
def test_a_graph_that_dgl_made():
    import dgl

    graph = dgl.graph(([0, 2], [1, 1]), num_nodes=4)
    graph.ndata["h"] = torch.arange(4.0)
    back = from_dgl(graph)
    assert back["_N"].h.tolist() == [0, 1, 2, 3]
    assert back["_N", "_E", "_N"].edge_index.tolist() == [[0, 2], [1, 1]]


@needs_dgl
def test_a_node_type_without_edges_has_no_place_in_dgl(layered):
    data = to_hetero_data(layered)
    data["patch"].x = torch.zeros(3, 2)
    with pytest.raises(InputError, match=r"DGL has no node types without edge types, such as \['patch'\]"):
        to_dgl(data)


def test_dgl_is_told_its_backend_while_it_is_imported(tmp_path, monkeypatch):
    # Not told, it writes a file into the home directory.
    (tmp_path / "dgl.py").write_text("import os\nbackend = os.environ.get('DGLBACKEND')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "dgl", raising=False)
    for before, expected in ((None, "pytorch"), ("mine", "mine")):
        if before is None:
            monkeypatch.delenv("DGLBACKEND", raising=False)
        else:
            monkeypatch.setenv("DGLBACKEND", before)
        from_dgl(SimpleNamespace(ntypes=[], canonical_etypes=[]))
        assert sys.modules.pop("dgl").backend == expected
        assert os.environ.get("DGLBACKEND") == before


def test_without_dgl_the_message_names_the_extra(layered, monkeypatch):
    monkeypatch.setitem(sys.modules, "dgl", None)
    for call in (lambda: to_dgl(to_hetero_data(layered)), lambda: from_dgl(None)):
        with pytest.raises(InputError, match=r"package 'dgl'.*pip install 'stgraph\[dgl\]'"):
            call()
    assert "DGLBACKEND" not in os.environ
