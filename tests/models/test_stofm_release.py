import json
import os
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from stgraph.data.cell_batch import CellBatch
from stgraph.errors import CheckpointError, InputError
from stgraph.models.pair_scope import CompletePairs, EdgePairs
from stgraph.models.rank_encoder import RankEncoder
from stgraph.models.stofm_release import SToFMRelease, is_stofm_release, load_stofm_release, save_stofm_release
from stgraph.models.stofm_se2 import SToFMSE2
from stgraph.nn.edge_attention import EdgeGraph

OURS = ("cell_head.", "gene_bias")
"""Weights that the published layout has no place for."""


def make(features=12):
    torch.manual_seed(0)
    cells = RankEncoder(20, 12, 16, ffn_channels=24, max_positions=32, pooling="class")
    graph = SToFMSE2(
        features, hidden_channels=16, num_layers=1, heads=2, ffn_channels=8, num_kernels=5, mask_value=-100.0
    )
    for network in (cells, graph):
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return cells.eval(), graph.eval()


@pytest.fixture
def folder(tmp_path):
    save_stofm_release(SToFMRelease(*make()), tmp_path / "ckpt")
    return tmp_path / "ckpt"


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_names_on_disk(folder):
    assert set(content(folder)) == {
        "config.json",
        "se2transformer.pth",
        "cell_encoder/cell_bert/config.json",
        "cell_encoder/cell_bert/model.safetensors",
        "cell_encoder/cell_proj.bin",
    }
    assert is_stofm_release(folder)
    assert not is_stofm_release(folder.parent)
    projection = torch.load(folder / "cell_encoder" / "cell_proj.bin", weights_only=True)
    assert {name: tuple(tensor.shape) for name, tensor in projection.items()} == {"weight": (12, 16), "bias": (12,)}


@pytest.mark.parametrize("heads", [False, True])
def test_round_trip_is_exact(tmp_path, heads):
    cells, graph = make()
    save_stofm_release(SToFMRelease(cells, graph), tmp_path / "first", heads=heads)
    loaded = load_stofm_release(tmp_path / "first")
    for made, network, head in (
        (cells, loaded.cells, ("cls.", *OURS)),
        (graph, loaded.graph, ("lm_head.", "pair_head.")),
    ):
        again = network.state_dict()
        assert set(made.state_dict()) == set(again)
        for name, tensor in made.state_dict().items():
            kept = not name.startswith(OURS if heads else head)
            assert torch.equal(tensor, again[name]) or not kept, name
        assert not network.training
    save_stofm_release(loaded, tmp_path / "second", heads=heads)
    assert content(tmp_path / "first") == content(tmp_path / "second")


def test_the_same_numbers(folder):
    cells, _ = make()
    loaded = load_stofm_release(folder)
    batch = CellBatch(torch.tensor([19, 2, 5, 19, 7]), torch.tensor([0, 3, 5]), torch.tensor([0, 1]))
    with torch.no_grad():
        assert torch.equal(loaded.cells.embed(batch), cells.embed(batch))
    assert loaded.graph.scope == CompletePairs(neighbors=50, unit="diagonal")
    assert load_stofm_release(folder, scope=EdgePairs(), tabulate=0.01).graph.scope == EdgePairs()


def test_weights_as_hugging_face_used_to_write_them(folder):
    bert = folder / "cell_encoder" / "cell_bert"
    expected = load_stofm_release(folder).cells.state_dict()
    torch.save(load_file(bert / "model.safetensors"), bert / "pytorch_model.bin")
    (bert / "model.safetensors").unlink()
    found = load_stofm_release(folder).cells.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_other_files_are_left_alone(folder):
    for name in ("data.h5ad", "cell_encoder/cell_bert/optimizer.pt", "setup.py"):
        (folder / name).write_bytes(b"no")
    load_stofm_release(folder)


def test_all_missing_files_are_said_at_once(folder):
    shutil.rmtree(folder / "cell_encoder" / "cell_bert")
    (folder / "se2transformer.pth").unlink()
    expected = (
        "lacks se2transformer.pth; cell_encoder/cell_bert/config.json; cell_encoder/cell_bert/model.safetensors or "
        "cell_encoder/cell_bert/pytorch_model.bin of the layout"
    )
    with pytest.raises(CheckpointError, match=expected):
        load_stofm_release(folder)
    with pytest.raises(CheckpointError, match=r"There is no folder '.*nothing'"):
        load_stofm_release(folder / "nothing")


def test_what_is_wrong_with_either_network_is_said_at_once(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"embedding_dim": 99, "num_hidden_layers": 3}))
    bert = folder / "cell_encoder" / "cell_bert" / "model.safetensors"
    weights = load_file(bert)
    del weights["encoder.layer.0.output.dense.bias"], weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, bert)
    with pytest.raises(CheckpointError) as caught:
        load_stofm_release(folder)
    for said in (
        "missing 'bert.encoder.layer.0.output.dense.bias'",
        "missing 'bert.encoder.layer.1.output.dense.weight'",
        "embedding_dim 99, but the weights have 16",
        "num_hidden_layers 3, but the weights have 1",
    ):
        assert said in str(caught.value)


def test_networks_of_two_models(folder, tmp_path):
    cells, other = make(features=7)
    with pytest.raises(InputError, match=r"gives 12 features of a cell, but the SE\(2\) transformer takes 7"):
        SToFMRelease(cells, other)
    save_stofm_release(SToFMRelease(RankEncoder(20, 7, 16, pooling="class"), other), tmp_path / "other")
    for name in ("config.json", "se2transformer.pth"):
        shutil.copy(tmp_path / "other" / name, folder / name)
    with pytest.raises(CheckpointError, match=r"is not one release of SToFM\. The cell encoder gives 12"):
        load_stofm_release(folder)


class Payload:
    """Runs when it is unpickled by a loader that runs what it reads."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize(
    "name", ["se2transformer.pth", "cell_encoder/cell_proj.bin", "cell_encoder/cell_bert/pytorch_model.bin"]
)
@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_the_files_is_not_run(folder, tmp_path, name, legacy):
    path = folder / name
    if path.is_file():
        weights = torch.load(path, weights_only=True)
    else:
        weights = load_file(path.with_name("model.safetensors"))
        path.with_name("model.safetensors").unlink()
    weights["payload"] = Payload(str(tmp_path / "ran"))
    torch.save(weights, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match="holds more than tensors, which is not run"):
        load_stofm_release(folder)
    assert not (tmp_path / "ran").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "ran").exists(), "the payload is none"


def test_a_failure_leaves_nothing_behind(tmp_path):
    cells, graph = make()
    torch.nn.init.constant_(cells.cell_proj.bias, torch.nan)
    with pytest.raises(InputError, match=r"'cell_proj.bias' of the model holds numbers that are not finite"):
        save_stofm_release(SToFMRelease(cells, graph), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(InputError, match="already has content"):
        save_stofm_release(SToFMRelease(*make()), tmp_path / "out")


@pytest.mark.real
def test_the_golden_transformer_in_the_whole_layout(data_dir, tmp_path):
    golden = data_dir / "golden" / "stofm_se2_random"
    save_stofm_release(SToFMRelease(*make()), tmp_path / "ckpt")
    width = json.loads(golden.with_suffix(".json").read_text())["input_dim"]
    proj = {"weight": torch.randn(width, 16), "bias": torch.zeros(width)}
    torch.save(proj, tmp_path / "ckpt" / "cell_encoder" / "cell_proj.bin")
    torch.save(load_file(golden.with_suffix(".safetensors")), tmp_path / "ckpt" / "se2transformer.pth")
    shutil.copy(golden.with_suffix(".json"), tmp_path / "ckpt" / "config.json")
    model = load_stofm_release(tmp_path / "ckpt").graph
    arrays = {name: torch.from_numpy(array) for name, array in np.load(golden.with_suffix(".npz")).items()}
    size = len(arrays["token_types"][0])
    graph = EdgeGraph.complete([size], arrays["distances"][0].ravel(), torch.zeros(size**2, dtype=torch.long))
    with torch.no_grad():
        last, _, _ = model.model(arrays["token_embeddings"][0], arrays["token_types"][0], graph)
    torch.testing.assert_close(last, arrays["last_hidden_state"][0], rtol=0, atol=1e-5)
