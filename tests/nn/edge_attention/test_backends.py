import importlib.util
from typing import get_args

import pytest
import torch

from stgraph.nn.edge_attention import EdgeGraph, backends, edge_attention
from stgraph.nn.edge_attention.backends import Backend, backend_for, missing
from stgraph.testing.edge_attention import EdgeAttentionContract, make_graph


@pytest.fixture
def nothing_installed(monkeypatch):
    """No optional package is there, and nobody remembers that one was."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    backends._found.cache_clear()
    yield
    backends._found.cache_clear()


def test_ours_need_nothing():
    assert [missing(name) for name in ("reference", "fused-cpu", "dense")] == [[], [], []]


def test_every_name_is_known():
    assert all(isinstance(missing(name), list) for name in get_args(Backend) if name != "auto")


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize(
    ("backend", "package"), [("triton", "triton"), ("dgl", "dgl"), ("torch-scatter", "torch_scatter")]
)
def test_what_is_missing_is_named(backend, package):
    assert missing(backend) == [package]
    graph = make_graph("random")
    inputs = EdgeAttentionContract().make_inputs(graph)
    with pytest.raises(
        ValueError, match=rf"'{backend}' of edge_attention needs {package}, not installed.*stgraph doctor"
    ):
        edge_attention(*inputs, graph, backend=backend)
    edge_attention(*inputs, graph)


def test_unknown_backend():
    graph = make_graph("random")
    with pytest.raises(ValueError, match=r"no backend 'cuda-magic'.*'fused-cpu'"):
        edge_attention(*EdgeAttentionContract().make_inputs(graph), graph, backend="cuda-magic")


def test_what_auto_takes():
    sparse, every = make_graph("random"), make_graph("parts")
    assert backend_for(torch.float32, every) == backend_for(torch.float64, every) == "dense"
    assert backend_for(torch.float64, sparse) == "reference"
    assert {backend_for(t, sparse) for t in (torch.float32, torch.bfloat16, torch.float16)} == {"fused-cpu"}


@pytest.mark.parametrize(
    ("device", "installed", "taken"),
    [("cuda", True, "triton"), ("cuda", False, "reference"), ("mps", True, "reference")],
)
def test_what_auto_takes_elsewhere(monkeypatch, device, installed, taken):
    class Elsewhere:
        device = torch.device("meta")

    monkeypatch.setattr(backends, "_installed", lambda name: installed)
    Elsewhere.device = torch.device(device)
    nothing = torch.zeros(0)
    graph = EdgeGraph(nothing, nothing, Elsewhere(), nothing, nothing)
    assert backend_for(torch.float32, graph) == taken
    assert backend_for(torch.float64, graph) == "reference"
