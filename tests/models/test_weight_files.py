import os

import pytest
import torch
from safetensors.torch import save_file

from stgraph.errors import CheckpointError
from stgraph.models.weight_files import read_weights


@pytest.mark.parametrize("name", ["a.safetensors", "a.bin", "a.pth"])
def test_reads_tensors(tmp_path, name):
    weights = {"a": torch.randn(2, 3), "b": torch.arange(3), "c": torch.ones(2).half()}
    (save_file if name.endswith("s") else torch.save)(weights, tmp_path / name)
    found = read_weights(tmp_path / name)
    assert set(found) == set(weights)
    assert all(torch.equal(found[key], weights[key]) for key in weights)


class Evil:
    def __reduce__(self):
        return os.mkdir, (os.environ["EVIL"],)


def test_runs_no_code(tmp_path, monkeypatch):
    monkeypatch.setenv("EVIL", str(tmp_path / "made"))
    torch.save({"a": Evil()}, tmp_path / "a.bin")
    with pytest.raises(CheckpointError, match="holds more than tensors, which is not run"):
        read_weights(tmp_path / "a.bin")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["a.safetensors", "a.bin"])
@pytest.mark.parametrize("content", [b"", b"abc", b"\x00" * 100])
def test_damaged(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_weights(tmp_path / name)


def test_missing(tmp_path):
    with pytest.raises(CheckpointError, match="no file"):
        read_weights(tmp_path / "a.bin")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(2)], "not a state dict"),
        ({1: torch.ones(2)}, "not a state dict"),
        ({"a": torch.ones(2), "b": 3.0}, "not a state dict"),
        ({"a": torch.tensor([1.0, float("nan")])}, "'a' holds numbers that are not finite"),
        ({"a": torch.ones(2, dtype=torch.complex64)}, "'a' is torch.complex64"),
        ({"a": torch.ones(2, dtype=torch.float64)}, "'a' is torch.float64, not float32"),
        ({"a": torch.eye(2).to_sparse()}, "'a' has the layout torch.sparse_coo"),
        ({"a": torch.tensor([float("inf")]), "b": torch.ones(1, dtype=torch.bool)}, "'a' holds .*; 'b' is torch.bool"),
        ({"a": torch.ones(3, device="meta")}, "'a' holds fewer numbers"),
    ],
)
def test_not_a_state_dict(tmp_path, content, message):
    torch.save(content, tmp_path / "a.bin")
    with pytest.raises(CheckpointError, match=message):
        read_weights(tmp_path / "a.bin")
