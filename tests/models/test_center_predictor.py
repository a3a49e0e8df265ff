import pytest
import torch

from stgraph._config import instantiate
from stgraph.models.aido_tissue import AIDOTissue
from stgraph.models.center_predictor import CenterPredictor
from stgraph.nn.module_config import module_config
from stgraph.testing.neighborhood_network import NUM_GENES, planted_neighborhoods


@pytest.fixture
def network():
    torch.manual_seed(0)
    return AIDOTissue(NUM_GENES, 16, 1, 2, 24, 5, decoder_channels=8, decoder_ffn_channels=16).eval()


def test_without_hidden_layers_it_is_a_linear_map_of_the_embedding(network):
    batch, model = planted_neighborhoods(), CenterPredictor(3, network).eval()
    weight, bias = torch.randn(3, 16), torch.randn(3)
    model.start_from(weight, bias)
    torch.testing.assert_close(model.embed(batch), network.embed(batch) @ weight.T + bias)
    assert model.out_channels == 3


def test_hidden_layers_are_added_and_say_nothing_at_the_start(network):
    batch = planted_neighborhoods()
    model = CenterPredictor(3, network, head_channels=(8,)).eval()
    weight, bias = torch.randn(3, 16), torch.randn(3)
    model.start_from(weight, bias)
    expected = network.embed(batch) @ weight.T + bias
    torch.testing.assert_close(model.embed(batch), expected)
    model.embed(batch).square().sum().backward()
    assert any(float(p.grad.abs().sum()) > 0 for p in model.hidden.parameters() if p.grad is not None)
    with torch.no_grad():
        for parameter in model.hidden.parameters():
            parameter.add_(0.5)
    assert (model.embed(batch) - expected).abs().max() > 0.1


def test_head_and_network_are_trained_together(network):
    model = CenterPredictor(3, network)
    model.embed(planted_neighborhoods()).square().sum().backward()
    for parameter in (model.linear.weight, network.position_embedding.weight):
        assert float(parameter.grad.abs().sum()) > 0


def test_dropout_is_of_training_only(network):
    batch, model = planted_neighborhoods(), CenterPredictor(3, network, dropout=0.5)
    assert not torch.equal(model.embed(batch), model.embed(batch))
    model.eval()
    assert torch.equal(model.embed(batch), model.embed(batch))


def test_hidden_genes_are_told_as_by_the_network(network):
    batch, model = planted_neighborhoods(), CenterPredictor(3, network).eval()
    states = model(batch)
    assert torch.equal(model.predict_hidden(states, batch), network.predict_hidden(network(batch), batch))
    assert torch.equal(states.center, network(batch).center)


def test_config_and_weights_make_the_same_model(network):
    batch, model = planted_neighborhoods(), CenterPredictor(3, network, head_channels=[8], dropout=0.1).eval()
    again = instantiate(module_config(model))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval().embed(batch), model.embed(batch))
