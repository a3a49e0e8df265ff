"""Layers whose arguments cannot be read off an object go from config to config as they are."""

import importlib.util

import numpy as np
import pytest

import stgraph
from stgraph._config import instantiate, to_config
from stgraph.errors import InputError, TrustError
from stgraph.training.loop import Trainer

MODEL = {"_target_": "stgraph.models.se2_transformer.SE2Transformer", "hidden_channels": 16, "num_layers": 2}
MLP = {"_target_": "torch_geometric.nn.MLP", "channel_list": [16, 16, 16], "norm": None}
PYG = {
    "GINEConv": ({"nn": MLP, "train_eps": True, "edge_dim": 8}, {"edge_channels": 8}),
    "GCNConv": ({"in_channels": 16, "out_channels": 16, "aggr": "mean"}, {}),
    "GATv2Conv": ({"in_channels": 16, "out_channels": 4, "heads": 4, "edge_dim": 8}, {}),
}


def layer_of(name, arguments, own, package="torch_geometric.nn", adapter="PyGConv", slot="conv"):
    conv = {"_target_": f"{package}.{name}", **arguments}
    return {"_target_": f"stgraph.nn.conv.{adapter}", "channels": 16, slot: conv, **own}


@pytest.mark.parametrize("name", [*PYG, "DGL"])
def test_a_config_is_trained_saved_and_loaded(name, tissue, tmp_path, monkeypatch):
    if name == "DGL":
        monkeypatch.setenv("DGLBACKEND", "pytorch")
        pytest.importorskip("dgl")
        arguments = {"in_feats": 16, "out_feats": 4, "num_heads": 4}
        layer = layer_of("GATv2Conv", arguments, {}, "dgl.nn.pytorch", "DGLModule", "module")
    else:
        layer = layer_of(name, *PYG[name])
    result = stgraph.fit(tissue, model=MODEL | {"layer": layer}, trainer=Trainer(max_steps=2), progress=False)
    assert result.settings["model"]["layer"] == layer
    result.pretrained.save(tmp_path)
    with pytest.raises(TrustError, match="is not run unless you trust it"):
        stgraph.from_pretrained(tmp_path)
    again = stgraph.from_pretrained(tmp_path, trust=["dgl" if name == "DGL" else "torch_geometric"])
    assert to_config(again.model) == to_config(result.pretrained.model)
    graph = next(iter(result.graphs.values()))
    np.testing.assert_array_equal(again.embed_graph(graph), result.pretrained.embed_graph(graph))


def test_code_that_is_not_trusted_is_not_even_imported(tmp_path, monkeypatch):
    (tmp_path / "mischief.py").write_text("raise AssertionError('run')")
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.util.find_spec("mischief") is not None
    deep = layer_of("GATv2Conv", {"in_channels": [{"_target_": "mischief.Class"}], "out_channels": 4}, {})
    with pytest.raises(TrustError, match="code of the package 'mischief'"):
        instantiate(MODEL | {"in_channels": 4, "layer": deep}, trusted=("stgraph", "torch_geometric"))


def test_a_misspelt_argument_is_refused():
    layer = layer_of("GATv2Conv", {"in_channels": 16, "out_channels": 16, "haeds": 4}, {})
    with pytest.raises(InputError, match=r"'torch_geometric\.nn\.GATv2Conv' cannot be built from its settings.*haeds"):
        instantiate(MODEL | {"in_channels": 4, "layer": layer})
