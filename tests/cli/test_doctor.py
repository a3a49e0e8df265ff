"""``stgraph doctor``: what runs here, and how fast."""

import json
import subprocess
import sys
from typing import get_args

import pytest
import torch

from stgraph.cli import doctor
from stgraph.cli.doctor import Diagnosis, diagnose, neighbor_graph
from stgraph.nn.edge_attention.backends import Backend

NAMES = [name for name in get_args(Backend) if name != "auto"]
OURS = ["reference", "fused-cpu", "dense"]


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch):
    monkeypatch.setattr(doctor, "_SECONDS", 0.0)


def test_table(cli):
    result = cli("doctor", "--cells", "50")
    assert result.code == 0, result.err
    assert all(name in result.out for name in NAMES)
    assert f"torch {torch.__version__}" in result.out
    assert "50 cells, 16 neighbours" in result.out
    assert "Traceback" not in result.err


def test_json(cli):
    result = cli("doctor", "--json", "--cells", "40")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert [d["backend"] for d in report["backends"]] == NAMES
    assert report["measured"] == {"cells": 40, "neighbors": 16, "heads": 8, "channels": 32}
    assert report["auto"]["all pairs"] == "dense"
    assert report["machine"]["threads"] == torch.get_num_threads()
    for d in report["backends"]:
        assert d["available"] or d["reason"]
        assert d["available"] or d["backend"] not in OURS
        assert (d["cells_per_second"] is None) == (d["ratio"] is None) == (d["device"] == "")
        if d["available"] and not d["reason"]:
            assert d["ratio"] == pytest.approx(d["cells_per_second"] / report["backends"][0]["cells_per_second"])


def test_two_cells_are_enough(cli):
    assert cli("doctor", "--cells", "2").code == 0
    assert cli("doctor", "--cells", "1").code == 2


def test_what_is_missing_is_told_with_the_command(monkeypatch):
    near = neighbor_graph(20)
    monkeypatch.setattr(doctor, "missing", lambda name: {"dgl": ["dgl"], "triton": ["triton"]}.get(name, []))
    assert diagnose("dgl", near, None) == Diagnosis(
        "dgl", available=False, reason="dgl not installed: pip install 'stgraph[dgl]'"
    )
    assert diagnose("triton", near, None).reason == "triton not installed"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_triton_without_a_gpu(monkeypatch):
    monkeypatch.setattr(doctor, "missing", lambda name: [])
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    found = diagnose("triton", neighbor_graph(20), None)
    assert not found.available
    assert "needs CUDA" in found.reason
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    found = diagnose("triton", neighbor_graph(20), None)
    assert (found.available, found.cells_per_second) == (True, None)
    assert "interpreted" in found.reason


def test_a_package_that_fails_is_told_by_what_it_says(monkeypatch):
    def broken(*_, **__):
        raise OSError("libx.so: undefined symbol\nand much more")

    monkeypatch.setattr(doctor, "missing", lambda name: [])
    monkeypatch.setattr(doctor, "edge_attention", broken)
    found = diagnose("torch-scatter", neighbor_graph(20), None)
    assert found == Diagnosis("torch-scatter", available=False, reason="libx.so: undefined symbol")


def test_the_graph_has_its_neighbours():
    graph = neighbor_graph(300)
    assert (graph.ptr.diff() == 16).all()
    assert (graph.row != graph.col).all()
    # The nearest of a jittered grid of 10 microns
    assert graph.distance.max() < 60
    assert (graph.row - graph.col).abs().float().median() < 40


def test_the_command_line_starts_without_torch():
    code = "import sys, stgraph.cli.main; assert 'torch' not in sys.modules and 'stgraph.cli.doctor' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
