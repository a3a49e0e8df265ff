import functools

import numpy as np
import pytest
import torch
from torch_geometric.nn import GATv2Conv, GPSConv, SAGEConv

import stgraph
from stgraph._config import instantiate, to_config
from stgraph.cli.compose import compose_config
from stgraph.data.convert import to_hetero_data
from stgraph.errors import InputError, TrustError
from stgraph.graph.build import build_graph
from stgraph.models.se2_transformer import SE2Transformer
from stgraph.nn.conv import PyGConv
from stgraph.nn.se2_block import SE2Block
from stgraph.objectives.distance_recovery import DistanceRecovery
from stgraph.testing.models import CellGraphModelContract
from stgraph.training.loop import Trainer


class TestContract(CellGraphModelContract):
    make = staticmethod(lambda in_channels: SE2Transformer(in_channels, hidden_channels=32, num_layers=2))


class TestOneLayerContract(CellGraphModelContract):
    make = staticmethod(lambda in_channels: SE2Transformer(in_channels, hidden_channels=16, num_layers=1, heads=2))


class TestConvolutionContract(CellGraphModelContract):
    make = staticmethod(
        lambda in_channels: SE2Transformer(
            in_channels,
            hidden_channels=32,
            num_layers=2,
            layer=PyGConv(GATv2Conv(32, 8, heads=4, edge_dim=8), channels=32),
        )
    )


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


OWN = """
import torch

class MyLayer(torch.nn.Module):
    def __init__(self, channels, depth=1):
        super().__init__()
        self.channels, self.depth = channels, depth
        self.lin = torch.nn.Linear(channels, channels)

    def forward(self, x, graph, pair):
        return x + torch.zeros_like(x).index_add(0, graph.row, self.lin(x)[graph.col]), pair
"""


@pytest.fixture
def own_layer(tmp_path, monkeypatch):
    """A class in a file of one's own; its import path."""
    name = f"layers_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return f"{name}.MyLayer"


def test_names_and_first_weights_without_a_layer_of_ones_own():
    torch.manual_seed(0)
    model = SE2Transformer(6, hidden_channels=8, num_layers=2, heads=2)
    assert isinstance(model.blocks[1], SE2Block)
    assert model.state_dict()["blocks.1.qkv.weight"].shape == (24, 8)
    config = to_config(model)
    assert config.pop("layer") is None
    torch.manual_seed(0)
    again = instantiate(config)  # as written before there was a choice
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_block_itself_as_a_layer_is_the_default(tissue):
    data = to_hetero_data(build_graph(tissue))
    default = SE2Transformer(data["cell"].x.shape[1], num_layers=2)
    named = SE2Transformer(data["cell"].x.shape[1], num_layers=2, layer=SE2Block(64, heads=4, ffn_channels=128))
    named.load_state_dict(default.state_dict())
    assert torch.equal(named.embed(data), default.embed(data))


def test_a_layer_by_import_path_is_trained_saved_and_loaded(tissue, own_layer, tmp_path):
    override = f"model.layer={{_target_: {own_layer}, channels: 64}}"
    config = compose_config("fit", [override, "model.num_layers=2"])["model"]
    result = stgraph.fit(tissue, model=config, trainer=Trainer(max_steps=3), progress=False)
    result.pretrained.save(tmp_path / "model")
    with pytest.raises(TrustError, match=f"'{own_layer}' is code of the package"):
        stgraph.from_pretrained(tmp_path / "model")
    again = stgraph.from_pretrained(tmp_path / "model", trust=[own_layer.partition(".")[0]])
    assert len(again.model.blocks) == 2
    assert type(again.model.blocks[0]).__name__ == "MyLayer"
    assert to_config(again.model) == to_config(result.pretrained.model)
    embedded = stgraph.embed(tissue, again).obsm["X_stgraph"]
    np.testing.assert_array_equal(embedded, result.adatas["synthetic_0"].obsm["X_stgraph"])


def test_a_layer_as_an_object_or_by_config_is_one_run(tissue, own_layer):
    config = {"_target_": own_layer, "channels": 16, "depth": 1}
    embeddings = []
    for layer in (config, instantiate(config)):
        model = functools.partial(SE2Transformer, hidden_channels=16, layer=layer)
        result = stgraph.fit(tissue, model=model, trainer=Trainer(max_steps=3), progress=False)
        assert result.settings["model"]["layer"] == config
        embeddings.append(result.adatas["synthetic_0"].obsm["X_stgraph"])
    np.testing.assert_array_equal(*embeddings)


def test_distances_are_recovered_past_a_layer_that_leaves_the_pair_state(tissue):
    data = to_hetero_data(build_graph(tissue))
    torch.manual_seed(0)
    model = SE2Transformer(data["cell"].x.shape[1], num_layers=2, layer=PyGConv(SAGEConv(64, 64), 64))
    objective = DistanceRecovery(jitter=1e-3)  # next to no noise: distances can be told
    batch = objective.corrupt(data, torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(100):
        loss = objective.loss(model, model(batch), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.05 * losses[0]


def test_another_width_is_refused_before_training(tissue, own_layer):
    config = {"_target_": "stgraph.models.se2_transformer.SE2Transformer"}
    layer = {"_target_": own_layer, "channels": 32}
    with pytest.raises(InputError, match="MyLayer has 32 channels and the model 64: set hidden_channels to 32"):
        stgraph.fit(tissue, model=config | {"layer": layer}, trainer=Trainer(max_steps=3), progress=False)


def test_global_attention_runs_in_training_with_a_warning(slices):
    layer = PyGConv(GPSConv(16, SAGEConv(16, 16), heads=2), channels=16, residual=False)
    model = functools.partial(SE2Transformer, hidden_channels=16, layer=layer)
    with pytest.warns(stgraph.errors.StgraphWarning, match="beyond its own edges"):
        result = stgraph.fit(slices, model=model, trainer=Trainer(max_steps=3, batch_size=2), progress=False)
    assert np.isfinite(result.adatas["synthetic_0"].obsm["X_stgraph"]).all()
