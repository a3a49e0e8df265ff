import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stgraph.data.box import SliceBox
from stgraph.data.convert import to_hetero_data
from stgraph.errors import CheckpointError, InputError
from stgraph.graph.build import build_graph
from stgraph.models.pair_scope import CompletePairs, EdgePairs
from stgraph.models.stofm_checkpoint import load_stofm, save_stofm
from stgraph.models.stofm_se2 import SToFMSE2
from stgraph.nn.edge_attention import EdgeGraph


def make(**options):
    torch.manual_seed(0)
    sizes = {"hidden_channels": 24, "num_layers": 2, "heads": 4, "ffn_channels": 20, "num_kernels": 9}
    model = SToFMSE2(7, **sizes | {"mask_value": -100.0} | options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.fixture(params=[False, True], ids=["bare", "training class"])
def heads(request):
    return request.param


@pytest.fixture
def folder(tmp_path, heads):
    save_stofm(make(), tmp_path / "published", heads=heads)
    return tmp_path / "published"


def weights_of(folder):
    return torch.load(folder / "se2transformer.pth", weights_only=True)


def rewrite(folder, change):
    weights = weights_of(folder)
    change(weights)
    torch.save(weights, folder / "se2transformer.pth")


def configure(folder, **changes):
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))


def test_round_trip_is_exact(folder, heads, tmp_path):
    expected, loaded = make().state_dict(), load_stofm(folder)
    for name, tensor in loaded.state_dict().items():
        if heads or name.startswith("model."):
            assert torch.equal(tensor, expected[name]), name
    assert not loaded.training
    assert loaded.scope == CompletePairs(neighbors=50, unit="diagonal")
    assert (loaded.mask_value, loaded.tabulate) == (-100.0, None)
    save_stofm(loaded, tmp_path / "again", heads=heads)
    first, second = weights_of(folder), weights_of(tmp_path / "again")
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (folder / "config.json").read_bytes() == (tmp_path / "again" / "config.json").read_bytes()


def test_names_on_disk(folder, heads):
    names = set(weights_of(folder))
    prefix = "model." if heads else ""
    assert {f"{prefix}encoder.layers.1.self_attn.q_proj.bias", f"{prefix}gaussian.means.weight"} <= names
    assert ({"lm_head.0.weight", "pair_head.2.bias"} <= names) == heads
    assert json.loads((folder / "config.json").read_text()) == {
        "input_dim": 7,
        "embedding_dim": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "ffn_embedding_dim": 20,
        "gaussian_hidden_dim": 9,
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "activation_dropout": 0.1,
    }


def test_what_the_config_may_leave_out(folder, tmp_path):
    configure(folder, input_dim=..., dropout=..., attention_dropout=0.25, architectures=["SToFMModel"])
    (folder / "cell_encoder").mkdir()
    model = load_stofm(folder, scope=EdgePairs(), tabulate=0.01, backend="reference")
    assert (model.in_channels, model.dropout, model.attention_dropout) == (7, 0.1, 0.25)
    assert (model.scope, model.tabulate, model.backend) == (EdgePairs(), 0.01, "reference")


def test_heads_that_are_not_there_are_drawn_from_the_seed(tmp_path):
    save_stofm(make(), tmp_path / "bare")
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, same, other = (load_stofm(tmp_path / "bare", random_state=seed).lm_head[0].weight for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_generators_of_gpus_are_left_alone(tmp_path, monkeypatch):
    """`torch.random.fork_rng` without devices gives back the state of the CPU only."""
    save_stofm(make(), tmp_path / "bare")
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    load_stofm(tmp_path / "bare")
    assert seeded == []


def test_half_precision_is_read_exactly(folder):
    rewrite(folder, lambda weights: weights.update({name: tensor.half() for name, tensor in weights.items()}))
    state = load_stofm(folder).model.state_dict()
    assert all(tensor.dtype == torch.float32 for tensor in state.values())
    assert torch.equal(state["embedding_layer.bias"], make().model.embedding_layer.bias.half().float())


def missing(weights):
    del weights[next(name for name in weights if name.endswith("fc1.bias"))]


def misnamed(weights):
    name = next(name for name in weights if name.endswith("layers.1.fc1.bias"))
    weights[name.replace("fc1", "fc3")] = weights.pop(name)


def extra(weights):
    weights["optimizer.step"] = torch.ones(1)


def reshaped(weights):
    name = next(name for name in weights if name.endswith("token_type_embeddings.weight"))
    weights[name] = weights[name][:3]


def transposed(weights):
    name = next(name for name in weights if name.endswith("layers.0.fc1.weight"))
    weights[name] = weights[name].T


def without_type(weights):
    del weights[next(name for name in weights if name.endswith("embedding_layer.weight"))]


def flat(weights):
    name = next(name for name in weights if name.endswith("gaussian.means.weight"))
    weights[name] = weights[name][0]


def infinite(weights):
    next(iter(weights.values()))[0] = torch.nan


def double(weights):
    name = next(iter(weights))
    weights[name] = weights[name].double()


def number(weights):
    weights["epoch"] = 3


def sparse(weights):
    name = next(name for name in weights if name.endswith("fc2.weight"))
    weights[name] = weights[name].to_sparse()


def stretched(weights):
    name = next(name for name in weights if name.endswith("embedding_layer.weight"))
    weights[name] = torch.zeros(1).expand(24, 10**12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (missing, r"do not fit: missing 'encoder.layers.0.fc1.bias'\."),
        (misnamed, r"missing 'encoder.layers.1.fc1.bias'; unknown 'encoder.layers.1.fc3.bias'\."),
        (extra, r"do not fit: unknown 'optimizer.step'\."),
        (reshaped, r"'token_type_embeddings.weight' has shape \(3, 24\), not \(4, 24\)"),
        (transposed, r"ffn_embedding_dim 20, but the weights have 24"),
        (without_type, r"lacks 'embedding_layer.weight', so it is not SToFM's SE\(2\) transformer: it has '"),
        (dict.clear, r"so it is not SToFM's SE\(2\) transformer: it is empty"),
        (flat, r"'gaussian.means.weight' in '.*' is no matrix"),
        (infinite, r"holds numbers that are not finite"),
        (stretched, r"holds fewer numbers than its shape, \(24, 1000000000000\), says"),
        (double, r"is torch.float64, not float32 or a half precision"),
        (number, r"is not a state dict, which has a tensor for each name"),
        (sparse, r"cannot be used: '.*fc2.weight' has the layout torch.sparse_coo, not a dense one"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_weights_that_do_not_fit(folder, change, message):
    rewrite(folder, change)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_stofm(folder)
    assert "\n" not in str(caught.value)


def test_heads_must_be_whole(tmp_path):
    save_stofm(make(), tmp_path / "trained", heads=True)
    rewrite(tmp_path / "trained", lambda weights: [weights.pop(f"pair_head.{i}.bias") for i in (0, 2)])
    with pytest.raises(CheckpointError, match=r"missing 'pair_head.0.bias'; missing 'pair_head.2.bias'"):
        load_stofm(tmp_path / "trained")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embedding_dim": 32}, "says embedding_dim 32, but the weights have 24"),
        ({"num_attention_heads": 8, "input_dim": 3}, "input_dim 3, .* 7; and num_attention_heads 8, .* 4"),
        ({"num_hidden_layers": ...}, "num_hidden_layers 12, which it means by leaving it out, but the weights have 2"),
        ({"gaussian_hidden_dim": "9"}, "gaussian_hidden_dim '9', but the weights have 9"),
        ({"embedding_dim": None}, "embedding_dim None, but the weights have 24"),
        ({"pre_layernorm": True}, "pre_layernorm True, but only False is published"),
        ({"activation_fn": "relu"}, "activation_fn 'relu', but only 'gelu' is published"),
        ({"dropout": 1.0}, "dropout 1.0, which is not from 0 to below 1"),
        ({"dropout": "a"}, "dropout 'a', which is not from 0 to below 1"),
    ],
)
def test_configs_that_do_not_fit(folder, changes, message):
    configure(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_stofm(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "not the config of a model"),
        ("[" * 100_000, "is not JSON"),
        ("\ufeff{}", "is not JSON"),
    ],
)
def test_damaged_configs(folder, text, message):
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        load_stofm(folder)


def test_missing_files(folder):
    for name in ("se2transformer.pth", "config.json"):
        (folder / name).unlink()
        with pytest.raises(CheckpointError, match=f"There is no '.*{name}'"):
            load_stofm(folder)


class Payload:
    """Runs when it is unpickled by a loader that runs what it reads."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_the_file_is_not_run(folder, tmp_path, legacy):
    weights = weights_of(folder) | {"payload": Payload(str(tmp_path / "ran"))}
    torch.save(weights, folder / "se2transformer.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match="holds more than tensors, which is not run"):
        load_stofm(folder)
    assert not (tmp_path / "ran").exists()


def test_truncated_weights(tmp_path):
    save_stofm(make(), tmp_path / "whole")
    content = (tmp_path / "whole" / "se2transformer.pth").read_bytes()
    target = tmp_path / "whole" / "se2transformer.pth"
    for damaged in (b"", b"no weights", content[: len(content) // 2], content[:-30], content[100:]):
        target.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="cannot be read"):
            load_stofm(tmp_path / "whole")


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match="published layout of SToFM is post-norm"):
        save_stofm(make(norm="pre"), tmp_path / "out")
    with pytest.raises(InputError, match="no learned mask"):
        save_stofm(make(mask_value=None), tmp_path / "out", heads=True)
    with pytest.raises(InputError, match=r"no mask_value, and -100.0 is not 0.0"):
        save_stofm(make(mask_value=0.0), tmp_path / "out", heads=True)
    diverged = make()
    torch.nn.init.constant_(diverged.model.embedding_layer.bias, torch.nan)
    with pytest.raises(InputError, match=r"'embedding_layer.bias' of the model holds numbers that are not finite"):
        save_stofm(diverged, tmp_path / "out")
    with pytest.raises(InputError, match=r"is float32: call model.float"):
        save_stofm(make().double(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    save_stofm(make(mask_value=None), tmp_path / "out")
    with pytest.raises(InputError, match="already has content"):
        save_stofm(make(), tmp_path / "out")


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("stgraph.models.stofm_checkpoint.json.dumps", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_stofm(make(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_released_setting_embeds_slices_that_know_their_box(tissue, tmp_path):
    graph = build_graph(tissue)
    graph = replace(graph, x=graph.x[:, :7], virtual=replace(graph.virtual, x=graph.virtual.x[:, :7]))
    save_stofm(make(), tmp_path / "released")
    model = load_stofm(tmp_path / "released")
    states = model.embed(SliceBox([graph])(to_hetero_data(graph)))
    assert states.shape == (len(graph), 24)
    assert states.isfinite().all()


@pytest.mark.real
@pytest.mark.parametrize("prefix", ["", "model."])
def test_the_golden_model_in_the_published_layout(data_dir, tmp_path, prefix):
    golden = data_dir / "golden" / "stofm_se2_random"
    weights = load_file(golden.with_suffix(".safetensors"))
    (tmp_path / "ckpt").mkdir()
    torch.save({prefix + name: tensor for name, tensor in weights.items()}, tmp_path / "ckpt" / "se2transformer.pth")
    shutil.copy(golden.with_suffix(".json"), tmp_path / "ckpt" / "config.json")
    model = load_stofm(tmp_path / "ckpt")
    arrays = {name: torch.from_numpy(array) for name, array in np.load(golden.with_suffix(".npz")).items()}
    size = len(arrays["token_types"][0])
    graph = EdgeGraph.complete([size], arrays["distances"][0].ravel(), torch.zeros(size**2, dtype=torch.long))
    with torch.no_grad():
        last, pair, _ = model.model(arrays["token_embeddings"][0], arrays["token_types"][0], graph)
    torch.testing.assert_close(last, arrays["last_hidden_state"][0], rtol=0, atol=1e-5)
    torch.testing.assert_close(pair, arrays["pair_state"][0].flatten(0, 1), rtol=0, atol=1e-5)
    save_stofm(model, tmp_path / "again")
    again = weights_of(tmp_path / "again")
    assert set(again) == set(weights)
    assert all(torch.equal(again[name], weights[name]) for name in weights)
