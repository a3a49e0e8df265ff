import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from stgraph._config import instantiate
from stgraph.errors import CheckpointError, InputError, StgraphWarning
from stgraph.models.aido_tissue import AIDOTissue
from stgraph.models.aido_tissue_release import LICENCE, is_aido_release, load_aido_tissue, save_aido_tissue
from stgraph.nn.module_config import module_config


def make(**settings):
    torch.manual_seed(0)
    arguments = {"hidden_channels": 16, "num_layers": 2, "ffn_channels": 24, "num_bins": 5, "decoder_channels": 8}
    model = AIDOTissue(10, **arguments | settings)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.fixture
def folder(tmp_path):
    save_aido_tissue(make(), tmp_path / "ckpt")
    return tmp_path / "ckpt"


def rewrite(folder, change):
    """Other weights, as somebody else's file."""
    weights = change(load_file(folder / "model.safetensors"))
    save_file(weights, folder / "model.safetensors")


def encoder(model):
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("decoder.")}


@pytest.mark.parametrize("norm", ["rms", "layer"])
def test_round_trip_is_exact(tmp_path, norm):
    model = make(norm=norm)
    save_aido_tissue(model, tmp_path / "first")
    loaded = load_aido_tissue(tmp_path / "first")
    assert loaded.norm == norm
    assert loaded.licence is None
    assert not loaded.training
    for name, tensor in encoder(model).items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    save_aido_tissue(loaded, tmp_path / "second")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_names_and_shapes_are_those_of_the_release(folder):
    shapes = {name: tuple(tensor.shape) for name, tensor in load_file(folder / "model.safetensors").items()}
    c, i, b = 16, 24, 5
    expected = {
        "gene_embedding.linear1.weight": (b, 1),
        "gene_embedding.linear1.bias": (b,),
        "gene_embedding.linear2.weight": (b, b),
        "gene_embedding.linear2.bias": (b,),
        "gene_embedding.lookup_table.weight": (b, c),
        "gene_embedding.mask_embedding.weight": (1, c),
        "gene_embedding.pad_embedding.weight": (1, c),
        "position_embedding.weight": (13, c),
        "encoder.ln.weight": (c,),
    }
    for layer in ("encoder.layer.0.", "encoder.layer.1."):
        expected |= {layer + "attention.ln.weight": (c,), layer + "ln.weight": (c,)}
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            expected |= {f"{layer}attention.{name}.weight": (c, c), f"{layer}attention.{name}.bias": (c,)}
        for name, (rows, columns) in {"up_proj": (i, c), "gate_proj": (i, c), "down_proj": (c, i)}.items():
            expected |= {f"{layer}mlp.{name}.weight": (rows, columns), f"{layer}mlp.{name}.bias": (rows,)}
    assert shapes == expected


@pytest.mark.parametrize("prefix", ["", "bert.", "backbone.encoder."])
def test_what_others_wrote_beside_it_is_left_out(folder, prefix):
    def change(weights):
        rest = {"cls.predictions.bias": torch.zeros(1)}
        wavelengths = {f"encoder.layer.{i}.attention.self.rotary_emb.inv_freq": torch.ones(2) for i in range(2)}
        return {prefix + name: tensor for name, tensor in {**weights, **wavelengths}.items()} | rest

    expected = encoder(make())
    rewrite(folder, change)
    (folder / "config.json").unlink()
    with pytest.warns(StgraphWarning, match="GenBio AI Community License"):
        loaded = load_aido_tissue(folder)
    assert loaded.heads == 2  # as many wavelengths for each half of a head of eight channels
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in expected.items())


def test_the_licence_goes_where_the_weights_go(folder, tmp_path):
    (folder / "config.json").unlink()
    with pytest.warns(StgraphWarning, match="outputs may not be used to train similar models"):
        loaded = load_aido_tissue(folder, heads=2)
    assert loaded.licence == LICENCE
    save_aido_tissue(loaded, tmp_path / "again")
    assert instantiate(module_config(loaded)).licence == LICENCE
    with pytest.warns(StgraphWarning, match="non-commercial"):
        assert load_aido_tissue(tmp_path / "again").licence == LICENCE


def fine_tuned(folder):
    """The weights as a checkpoint of Lightning has them, with a head and much else beside them."""
    weights = load_file(folder / "model.safetensors")
    state = {f"backbone.encoder.{name}": tensor for name, tensor in weights.items()}
    state |= {"adapter.linear.weight": torch.zeros(6, 16), "adapter.linear.bias": torch.zeros(6)}
    (folder / "model.safetensors").unlink()
    return {"state_dict": state, "epoch": 3, "optimizer_states": [{"lr": 0.1}], "pytorch-lightning_version": "2.5"}


def test_a_checkpoint_of_lightning(folder):
    torch.save(fine_tuned(folder), folder / "last.ckpt")
    with pytest.warns(StgraphWarning, match=r"the head of a task \(adapter.linear.weight, adapter.linear.b"):
        loaded = load_aido_tissue(folder)
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in encoder(make()).items())
    (folder / "first.ckpt").write_bytes((folder / "last.ckpt").read_bytes())
    with pytest.raises(CheckpointError, match=r"2 checkpoints \('first.ckpt', 'last.ckpt'\): give the path of one"):
        load_aido_tissue(folder)
    with pytest.warns(StgraphWarning) as said:
        load_aido_tissue(folder / "last.ckpt", heads=2)
    assert [LICENCE in str(each.message) for each in said] == [False, True]


def test_code_in_a_checkpoint_of_lightning_is_not_run(folder, tmp_path):
    payload = {"hyper_parameters": Payload(str(tmp_path / "ran"))}
    torch.save(fine_tuned(folder) | payload, folder / "last.ckpt")
    with pytest.raises(CheckpointError, match=r"not run\. Of a checkpoint that you trust, save the 'state_dict'"):
        load_aido_tissue(folder)
    assert not (tmp_path / "ran").exists()


def test_which_folders_and_files_look_published(folder, tmp_path):
    assert is_aido_release(folder)
    assert is_aido_release(folder / "model.safetensors")
    assert not is_aido_release(folder / "config.json")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"format_version": 1}))  # a model directory of ours
    assert not is_aido_release(folder)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    assert not is_aido_release(folder)
    (folder / "config.json").unlink()
    assert is_aido_release(folder)
    save_file({"a": torch.zeros(1)}, folder / "encoder.safetensors")  # one of ours that lost its config.json
    assert not is_aido_release(folder)
    (tmp_path / "empty").mkdir()
    assert not is_aido_release(tmp_path / "empty")


def test_settings_that_are_not_those_of_the_weights_are_refused(folder):
    same = {"hidden_channels": 16, "num_layers": 2, "norm": "rms", "num_genes": 10, "heads": 2}
    assert load_aido_tissue(folder, **same).num_layers == 2
    with pytest.raises(InputError, match=r"hidden_channels 16, not 999; norm 'rms', not 'layer': leave out"):
        load_aido_tissue(folder, hidden_channels=999, norm="layer", dropout=0.1)
    with pytest.raises(CheckpointError, match=r"config.json says num_attention_heads 2, but the weights have 1"):
        load_aido_tissue(folder, heads=1)


def test_half_precision_and_the_older_file(folder):
    weights = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    loaded = load_aido_tissue(folder)
    assert all(tensor.dtype == torch.float32 for tensor in loaded.state_dict().values())
    assert torch.equal(loaded.position_embedding.weight, weights["position_embedding.weight"].float())


def test_the_decoder_is_drawn_by_the_seed(folder):
    one, same, other = (load_aido_tissue(folder, random_state=seed, decoder_channels=8) for seed in (0, 0, 1))
    assert torch.equal(one.decoder.embed.weight, same.decoder.embed.weight)
    assert not torch.equal(one.decoder.embed.weight, other.decoder.embed.weight)
    before = torch.get_rng_state()
    load_aido_tissue(folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_settings_that_weights_do_not_decide(folder):
    loaded = load_aido_tissue(folder, pooling="mean", decoder_layers=1)
    assert (loaded.pooling, loaded.decoder_layers) == ("mean", 1)


def test_all_that_does_not_fit_is_said_at_once(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"intermediate_size": 99, "bin_alpha": 2.0, "max_position_embeddings": 9})
    )

    def change(weights):
        del weights["encoder.layer.1.mlp.down_proj.bias"]
        weights["encoder.ln.weight"] = torch.zeros(3)
        return weights | {"encoder.strange": torch.zeros(1), "encoder.layer.0.ln.weight": torch.zeros(16).long()}

    rewrite(folder, change)
    with pytest.raises(CheckpointError) as caught:
        load_aido_tissue(folder)
    for said in (
        "intermediate_size 99, but the weights have 24",
        "max_position_embeddings 9, but the weights have 10",
        "bin_alpha 2.0, but only 1.0 is published",
        "missing 'encoder.layer.1.mlp.down_proj.bias'",
        "unknown 'encoder.strange'",
        "'encoder.ln.weight' has shape (3,), not (16,)",
        "'encoder.layer.0.ln.weight' is torch.int64, not float32",
    ):
        assert said in str(caught.value)


def test_files_that_are_none(folder, tmp_path):
    with pytest.raises(CheckpointError, match=r"There is no '.*nowhere'"):
        load_aido_tissue(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"neither model.safetensors nor pytorch_model.bin"):
        load_aido_tissue(tmp_path / "empty")
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"so it is not AIDO\.Tissue: it has 'weight'"):
        load_aido_tissue(tmp_path / "other.safetensors")
    save_file({"position_embedding.weight": torch.zeros(5, 8)}, tmp_path / "part.safetensors")
    with pytest.raises(CheckpointError, match=r"lacks 'encoder.layer.0.mlp.up_proj.weight', 'gene_embedding.lookup"):
        load_aido_tissue(tmp_path / "part.safetensors")
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match="Nothing tells how many heads the network of 16 channels has"):
        load_aido_tissue(folder)


class Payload:
    """Runs when it is unpickled by a loader that runs what it reads."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_code_in_the_file_is_not_run(folder, tmp_path):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights | {"payload": Payload(str(tmp_path / "ran"))}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="holds more than tensors, which is not run"):
        load_aido_tissue(folder)
    assert not (tmp_path / "ran").exists()


def test_models_without_a_place(tmp_path):
    with pytest.raises(InputError, match=r"call model.float\(\) first"):
        save_aido_tissue(make().bfloat16(), tmp_path / "out")
    model = make()
    torch.nn.init.constant_(model.position_embedding.weight, torch.nan)
    with pytest.raises(InputError, match=r"'position_embedding.weight' of the model holds numbers that are not finite"):
        save_aido_tissue(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
