import pytest
import torch
from torch_geometric.nn import (
    MLP,
    EdgeConv,
    GATv2Conv,
    GCNConv,
    GINEConv,
    GPSConv,
    GraphConv,
    RGCNConv,
    SAGEConv,
    TransformerConv,
)

from stgraph._config import instantiate
from stgraph.errors import InputError
from stgraph.nn.conv import DGLModule, PyGConv
from stgraph.nn.edge_attention import EdgeGraph
from stgraph.testing.layers import GraphLayerContract


class TestTransformerConv(GraphLayerContract):
    make = staticmethod(lambda: PyGConv(TransformerConv(16, 4, heads=4, edge_dim=8), channels=16))


class TestGATv2Conv(GraphLayerContract):
    make = staticmethod(lambda: PyGConv(GATv2Conv(16, 4, heads=4, edge_dim=8), channels=16, dropout=0.2))


class TestGINEConv(GraphLayerContract):
    make = staticmethod(lambda: PyGConv(GINEConv(torch.nn.Linear(16, 16)), channels=16, edge_channels=16))


class TestGCNConv(GraphLayerContract):
    make = staticmethod(lambda: PyGConv(GCNConv(16, 16), channels=16))


class TestGCNConvAsIs(GraphLayerContract):
    make = staticmethod(lambda: PyGConv(GCNConv(16, 16, normalize=False), channels=16, residual=False))


class TestSAGEConv(GraphLayerContract):
    make = staticmethod(lambda: PyGConv(SAGEConv(16, 16), channels=16))


class TestRGCNConv(GraphLayerContract):
    make = staticmethod(lambda: PyGConv(RGCNConv(16, 16, num_relations=4), channels=16))


class TestEdgeConv(GraphLayerContract):
    make = staticmethod(lambda: PyGConv(EdgeConv(MLP([32, 16, 16], act="tanh")), channels=16))


class TestGPSConv(GraphLayerContract):
    make = staticmethod(
        lambda: PyGConv(GPSConv(16, GINEConv(torch.nn.Linear(16, 16)), heads=2), 16, edge_channels=16, residual=False)
    )
    local = False


GINE = {
    "_target_": "stgraph.nn.conv.PyGConv",
    "channels": 16,
    "edge_channels": 8,
    "conv": {
        "_target_": "torch_geometric.nn.GINEConv",
        "nn": {"_target_": "torch_geometric.nn.MLP", "channel_list": [16, 16, 16], "norm": None, "act": "tanh"},
        "train_eps": True,
        "edge_dim": 8,
    },
}


class TestGINEConvFromConfig(GraphLayerContract):
    make = staticmethod(lambda: instantiate(GINE))
    config = GINE


class DGLContract(GraphLayerContract):
    """DGL's convolutions do not keep what they were built with."""

    @pytest.fixture(autouse=True)
    def _dgl(self, monkeypatch):
        monkeypatch.setenv("DGLBACKEND", "pytorch")  # else importing it writes a file into the home directory
        pytest.importorskip("dgl")

    def make(self):
        return instantiate(self.config)


def dgl_config(name, edge_channels=None, **arguments):
    module = {"_target_": f"dgl.nn.pytorch.{name}", **arguments}
    return {
        "_target_": "stgraph.nn.conv.DGLModule",
        "channels": 16,
        "edge_channels": edge_channels,
        "module": module,
    }


class TestDGLGraphConv(DGLContract):
    config = dgl_config("GraphConv", in_feats=16, out_feats=16, norm="right")


class TestDGLGATv2Conv(DGLContract):
    config = dgl_config("GATv2Conv", in_feats=16, out_feats=4, num_heads=4)


class TestDGLEGATConv(DGLContract):
    config = dgl_config(
        "EGATConv", 8, in_node_feats=16, in_edge_feats=8, out_node_feats=4, out_edge_feats=8, num_heads=4
    )


class TestDGLRelGraphConv(DGLContract):
    config = dgl_config("RelGraphConv", in_feat=16, out_feat=16, num_rels=4)


@pytest.fixture
def star():
    """Node 0 hears from 1, 2 and itself; 2 hears from 0; nobody hears from 3, nor does 3 from anybody."""
    row, col = torch.tensor([0, 0, 0, 2]), torch.tensor([0, 1, 2, 0])
    return EdgeGraph.from_edges(4, row, col, torch.tensor([0.0, 1, 2, 3]), torch.tensor([3, 0, 1, 2]))[0]


class Spy(torch.nn.Module):
    """Keeps what it is called with."""

    def forward(self, x, edge_index, edge_attr, edge_type):
        self.seen = x, edge_index, edge_attr, edge_type
        return 2 * x


def test_what_a_convolution_is_given(star):
    layer = PyGConv(Spy(), channels=2, heads=3, edge_channels=5, residual=False)
    x, pair = torch.randn(4, 2), torch.randn(4, 3)
    out, out_pair = layer(x, star, pair)
    seen, edge_index, edge_attr, edge_type = layer.conv.seen
    assert torch.equal(seen, x)
    assert edge_index.tolist() == [[0, 1, 2, 0], [0, 0, 0, 2]]  # sources, then targets
    assert torch.equal(edge_attr, layer.edge(pair))
    assert edge_type.tolist() == [3, 0, 1, 2]
    assert torch.equal(out, 2 * x)
    assert out_pair is pair


def test_the_residual_block(star):
    layer = PyGConv(Spy(), channels=2, heads=3, edge_channels=5)
    x, pair = torch.randn(4, 2), torch.randn(4, 3)
    torch.testing.assert_close(layer(x, star, pair)[0], x + 2 * torch.nn.functional.gelu(layer.norm(x)))


@pytest.mark.parametrize("library", ["pyg", "dgl"])
def test_edge_weights_make_a_weighted_mean(star, library, monkeypatch):
    torch.manual_seed(0)
    if library == "pyg":
        layer = PyGConv(GraphConv(2, 2, bias=False), channels=2, residual=False)
        with torch.no_grad():
            layer.conv.lin_rel.weight.copy_(torch.eye(2))
            layer.conv.lin_root.weight.zero_()
    else:
        monkeypatch.setenv("DGLBACKEND", "pytorch")
        nn = pytest.importorskip("dgl.nn")
        module = nn.GraphConv(2, 2, norm="none", weight=False, bias=False)
        layer = DGLModule(module, channels=2, residual=False)
    x, pair = torch.randn(4, 2), torch.randn(4, 4)
    out, _ = layer(x, star, pair)
    weight = torch.softmax(layer.edge(pair)[:3, 0], 0)
    torch.testing.assert_close(out[0], weight @ x[:3])
    torch.testing.assert_close(out[2], x[0])


def test_global_attention_stays_in_its_component_and_hears_no_query():
    """Two slices of two cells and a query each; nodes in the order of a batch, cells before queries."""
    row, col = torch.tensor([0, 1, 0, 1, 2, 3, 2, 3, 4, 5]), torch.tensor([0, 1, 1, 0, 2, 3, 3, 2, 0, 2])
    graph = EdgeGraph.from_edges(6, row, col, torch.ones(10), torch.zeros(10, dtype=torch.long))[0]
    torch.manual_seed(0)
    layer = PyGConv(GPSConv(8, SAGEConv(8, 8), heads=2), channels=8, residual=False).eval()
    x, pair = torch.randn(6, 8), torch.zeros(10, 4)
    before = layer(x, graph, pair)[0]
    heard = {}
    for node in range(6):
        changed = x.clone()
        changed[node] += 1.0
        after = layer(changed, graph, pair)[0]
        heard[node] = (after - before).abs().amax(1).gt(1e-5).nonzero()[:, 0].tolist()
    # Queries hear from their cell by the convolution.
    assert heard == {0: [0, 1, 4], 1: [0, 1], 2: [2, 3, 5], 3: [2, 3], 4: [4], 5: [5]}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PyGConv(GCNConv(8, 8, cached=True), 8), "GCNConv caches the first graph it sees"),
        (lambda: PyGConv(SAGEConv(8, 8, flow="target_to_source"), 8), "SAGEConv sends messages to sources"),
        (lambda: PyGConv(GINEConv(torch.nn.Linear(8, 8)), 8), "GINEConv does not say how wide its edge features are"),
        (lambda: PyGConv(SAGEConv(8, 8), 8, edge_channels=4), "SAGEConv takes nothing of edges"),
        (lambda: PyGConv(GraphConv(8, 8), 8, edge_channels=4), "GraphConv takes one weight of an edge"),
        (lambda: PyGConv(SAGEConv(8, 8), 8, dropout=1.0), "dropout from 0 to below 1"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_convolution_that_learns_nothing_of_edges(star):
    for conv in (GATv2Conv(4, 4), GraphConv(4, 4), TransformerConv(4, 4, edge_dim=4)):
        layer = PyGConv(conv, channels=4, edge_channels=0)
        x = torch.randn(4, 4)
        assert layer.edge is None
        if not isinstance(conv, TransformerConv):  # which then wants some
            assert torch.equal(layer(x, star, torch.zeros(4, 4))[0], layer(x, star, torch.ones(4, 4))[0])


def test_another_width_is_said(star):
    layer = PyGConv(GATv2Conv(4, 4, heads=3), channels=4)
    with pytest.raises(InputError, match="gives 12 channels, heads joined, not the 4"):
        layer(torch.randn(4, 4), star, torch.zeros(4, 4))
