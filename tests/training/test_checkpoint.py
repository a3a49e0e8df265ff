import json

import pytest
import torch
from torch import nn

from stgraph.errors import CheckpointError
from stgraph.training.checkpoint import load_checkpoint, load_weights, save_checkpoint


@pytest.fixture
def folder(tmp_path):
    save_checkpoint(tmp_path / "m", {"a": 1}, {"model": {"w": torch.arange(6.0)}, "other": {"b": torch.ones(2, 2)}})
    return tmp_path / "m"


def test_round_trip(folder):
    config, tensors = load_checkpoint(folder)
    assert config["a"] == 1
    assert torch.equal(tensors["model"]["w"], torch.arange(6.0))
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors", "other.safetensors"]


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-3])


def flip(folder):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "truncated or replaced"),
        (flip, "has changed since it was written"),
        (lambda f: (f / "other.safetensors").unlink(), "lacks 'other.safetensors'"),
        (lambda f: (f / "config.json").unlink(), "has no config.json"),
        (lambda f: (f / "config.json").write_text('{"format'), "damaged"),
        (lambda f: (f / "config.json").write_text("[]"), "not written by stgraph"),
        (lambda f: edit(f, format_version=99), "format version 99"),
        (lambda f: edit(f, files=None), "does not list its files"),
        (lambda f: edit(f, files={"../x.safetensors": {"bytes": 1, "sha256": ""}}), "not one of its weights"),
        (lambda f: edit(f, files={"model.pkl": {"bytes": 1, "sha256": ""}}), "not one of its weights"),
    ],
)
def test_damage_is_named(folder, damage, message):
    damage(folder)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_missing_folder(tmp_path):
    with pytest.raises(CheckpointError, match="no model directory"):
        load_checkpoint(tmp_path / "nowhere")


def test_every_mismatch_is_listed():
    with pytest.raises(
        CheckpointError, match=r"missing 'bias'; unknown 'extra'; 'weight' has shape \(3, 2\), not \(2, 2\)"
    ):
        load_weights(nn.Linear(2, 2), {"weight": torch.zeros(3, 2), "extra": torch.zeros(1)}, name="m")
