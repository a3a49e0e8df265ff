import numpy as np
import torch

from stgraph.data.convert import to_hetero_data
from stgraph.graph.build import build_graph
from stgraph.models.se2_transformer import SE2Transformer
from stgraph.testing.models import CellGraphModelContract


class TestContract(CellGraphModelContract):
    make = staticmethod(lambda in_channels: SE2Transformer(in_channels, hidden_channels=32, num_layers=2))


class TestOneLayerContract(CellGraphModelContract):
    make = staticmethod(lambda in_channels: SE2Transformer(in_channels, hidden_channels=16, num_layers=1, heads=2))


def test_one_layer_embeds_a_cell_without_looking_at_it(tissue):
    graph = build_graph(tissue, virtual_cells=None)
    torch.manual_seed(0)
    model = SE2Transformer(graph.x.shape[1], num_layers=1).eval()
    data = to_hetero_data(graph)
    before = model.embed(data)
    data["cell"].x = data["cell"].x.clone()
    data["cell"].x[7] += 5.0
    changed = (model.embed(data) - before).abs().amax(dim=1).numpy() > 1e-6
    np.testing.assert_array_equal(np.flatnonzero(changed), graph.near[7].indices)


def test_embedding_needs_no_gradient(tissue):
    graph = build_graph(tissue)
    assert not SE2Transformer(graph.x.shape[1]).embed(to_hetero_data(graph)).requires_grad
