from dataclasses import replace

import numpy as np
import pytest
import torch

from stgraph.data.box import SliceBox
from stgraph.data.convert import to_hetero_data
from stgraph.models.cell_predictor import CellPredictor, read_cells
from stgraph.models.se2_transformer import SE2Transformer
from stgraph.models.stofm_se2 import SToFMSE2


def test_the_head_reads_features_query_and_cell(fitted):
    data = to_hetero_data(fitted.graphs["synthetic_0"])
    output = fitted.pretrained.model(data)
    read = read_cells(output, data)
    assert torch.equal(read, torch.cat([data["cell"].x, output.query, output.cell], dim=1))


def test_a_state_that_is_both_is_read_once(fitted):
    graph = fitted.graphs["synthetic_0"]
    data = SliceBox([graph])(to_hetero_data(graph))
    network = SToFMSE2(20, hidden_channels=16, num_layers=1, heads=2, ffn_channels=16).eval()
    assert read_cells(network(data), data).shape == (320, 36)


def test_predictions_do_not_depend_on_how_a_slice_is_cut(fitted):
    torch.manual_seed(0)
    network = SE2Transformer(20, hidden_channels=16, num_layers=2)
    predictor = CellPredictor(52, 3, network, head_channels=[8], dropout=0.5).eval()
    pretrained = replace(fitted.pretrained, model=predictor)
    graph = fitted.graphs["synthetic_0"]
    whole, parts = pretrained.embed_graph(graph), pretrained.embed_graph(graph, part_size=60)
    assert whole.shape == (320, 3)
    np.testing.assert_allclose(whole, parts, atol=2e-5)
    assert whole.std(axis=0).min() > 1e-3


@pytest.mark.parametrize("wrong", [{"out_channels": 0}, {"head_channels": [0]}, {"dropout": 1.0}])
def test_senseless_parameters(wrong):
    with pytest.raises(ValueError, match="A head needs"):
        CellPredictor(**({"in_channels": 52, "out_channels": 3, "network": SE2Transformer(20)} | wrong))
