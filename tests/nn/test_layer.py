import pytest
import torch
from torch import nn
from torch_geometric.nn import GATv2Conv, GPSConv, SAGEConv

from stgraph._config import to_config
from stgraph.errors import InputError, StgraphWarning
from stgraph.nn.conv import PyGConv
from stgraph.nn.layer import make_layers
from stgraph.nn.se2_block import SE2Block
from stgraph.testing.layers import GraphLayerContract


class TestSE2Block(GraphLayerContract):
    make = staticmethod(lambda: SE2Block(16, heads=4, ffn_channels=32, dropout=0.1))


class Echo(nn.Module):
    """Does nothing right or wrong: what is wrong with a layer is added to it."""

    def __init__(self, channels=16):
        super().__init__()
        self.channels = channels
        self.lin = nn.Linear(channels, channels)

    def forward(self, x, graph, pair):
        heard = torch.zeros_like(x).index_add(0, graph.row, self.lin(x).to(x.dtype).index_select(0, graph.col))
        return x + heard, pair


class TestEcho(GraphLayerContract):
    make = staticmethod(Echo)


class GlobalMean(Echo):
    def forward(self, x, graph, pair):
        x, pair = super().forward(x, graph, pair)
        return x - x.mean(0), pair


class DegreeOfSource(Echo):
    def forward(self, x, graph, pair):
        return super().forward(x / graph.ptr.diff().clamp(min=1)[:, None], graph, pair)


class ByPlace(Echo):
    def forward(self, x, graph, pair):
        return super().forward(x * torch.arange(len(x))[:, None], graph, pair)


class ByPlaceOfEdge(Echo):
    def forward(self, x, graph, pair):
        x, pair = super().forward(x, graph, pair)
        return x, pair * (torch.arange(len(pair)) - graph.ptr[graph.row])[:, None]


class Remembers(Echo):
    def forward(self, x, graph, pair):
        self.degree = getattr(self, "degree", graph.ptr.diff().float().mean())
        return super().forward(x * self.degree, graph, pair)


class Idle(Echo):
    def __init__(self, channels=16):
        super().__init__(channels)
        self.idle = nn.Parameter(torch.ones(3))


class InPlace(Echo):
    def forward(self, x, graph, pair):
        pair += 1
        return super().forward(x, graph, pair)


class Divides(Echo):
    def forward(self, x, graph, pair):
        x, pair = super().forward(x, graph, pair)
        return x / graph.ptr.diff()[:, None], pair


class Forgets(Echo):
    def __init__(self, size):
        super().__init__(size)


class Half(Echo):
    def forward(self, x, graph, pair):
        x, pair = super().forward(x, graph, pair)
        return x.to(torch.bfloat16), pair


@pytest.mark.parametrize(
    ("layer", "found_by"),
    [
        (GlobalMean, "test_two_graphs_do_not_meet"),
        (GlobalMean, "test_a_node_without_edges_is_no_matter"),
        (GlobalMean, "test_a_node_hears_from_its_own_edges_only"),
        (DegreeOfSource, "test_a_node_hears_from_its_own_edges_only"),
        (ByPlace, "test_order_of_nodes_and_edges"),
        (ByPlaceOfEdge, "test_order_of_nodes_and_edges"),
        (Remembers, "test_another_graph_in_between"),
        (Idle, "test_gradients_reach_every_weight"),
        (InPlace, "test_inputs_are_not_changed"),
        (Divides, "test_a_node_without_edges_is_no_matter"),
        (lambda: Forgets(16), "test_config_and_weights_make_the_same_layer"),
        (Half, "test_shapes_and_types_are_kept"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_contract_finds(layer, found_by):
    case = GraphLayerContract()
    case.make = layer
    arguments = (GraphLayerContract.layer.__wrapped__(case), GraphLayerContract.graph.__wrapped__(case))
    with pytest.raises((AssertionError, InputError)):
        getattr(case, found_by)(*arguments)


def test_layers_are_all_new():
    pattern = Echo(8)
    with torch.no_grad():
        pattern.lin.weight.zero_()
    made = [*make_layers(pattern, 2, 8, 4), *make_layers(to_config(pattern), 2, 8, 4)]
    weights = [layer.lin.weight for layer in made]
    assert all(weight.any() for weight in weights)
    assert len({float(weight.detach().sum()) for weight in weights}) == 4


def test_an_object_inside_a_config_is_not_shared():
    config = {"_target_": "stgraph.nn.conv.PyGConv", "conv": SAGEConv(8, 8), "channels": 8}
    first, second = make_layers(config, 2, 8, 4)
    assert first.conv is not second.conv is not config["conv"]
    assert not torch.equal(first.conv.lin_l.weight, second.conv.lin_l.weight)


def test_a_lazy_convolution_learns_its_width():
    first, second = make_layers(PyGConv(SAGEConv(-1, 8), 8), 2, 8, 4)
    assert first.conv.lin_l.weight.shape == (8, 8)
    assert not torch.equal(first.conv.lin_l.weight, second.conv.lin_l.weight)


class OnlyNodes(Echo):
    def forward(self, x, graph, pair):
        return super().forward(x, graph, pair)[0]


class Wide(Echo):
    def __init__(self, width):
        super().__init__(width)
        del self.channels
        self.width = width


class Doubles(Echo):
    def forward(self, x, graph, pair):
        return torch.cat([x, x], 1), pair


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Echo(4), "The layer Echo has 4 channels and the model 8: set hidden_channels to 4"),
        (Wide(4), r"The layer Wide cannot run on states of 8 channels \(hidden_channels\)"),
        (Doubles(8), r"must give node states and pair states of the shape it was given.*not \[\(4, 16\), \(5, 4\)\]"),
        (OnlyNodes(8), "must give node states and pair states of the shape it was given.*not Tensor"),
        (nn.Linear(8, 8), "The layer Linear cannot run"),
        (Echo, "A layer is a torch.nn.Module.*give an object"),
        ({"_target_": "stgraph.graph.builders.KNN"}, "A layer is a torch.nn.Module.*not KNN"),
        ({"channels": 4}, "A layer is a torch.nn.Module"),
        ({"_target_": "mylab.layers.MyLayer"}, "cannot be imported"),
        (Forgets(8), "The arguments that built this Forgets cannot be read off it .it does not keep 'size'"),
        (PyGConv(GATv2Conv(8, 8, edge_dim=4), 8, heads=2), "cannot run on .* pair states of 4 heads"),
    ],
)
def test_what_is_no_layer_of_the_model_is_refused_in_one_sentence(layer, message):
    with pytest.raises(InputError, match=message) as caught:
        make_layers(layer, 2, 8, 4)
    assert "\n" not in str(caught.value)


def test_a_layer_that_hears_from_beyond_its_edges_is_warned_of_once():
    layer = PyGConv(GPSConv(8, SAGEConv(8, 8), heads=2), channels=8, residual=False)
    with pytest.warns(StgraphWarning, match="a node hears from beyond its own edges") as said:
        make_layers(layer, 3, 8, 4)
    assert len(said) == 1
