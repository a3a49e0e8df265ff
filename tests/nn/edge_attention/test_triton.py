"""Kernels for GPUs: interpreted on the CPU, compiled for a GPU that need not be there, and run on one if there is."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from stgraph.nn.edge_attention import EdgeGraph, edge_attention, triton
from stgraph.testing.edge_attention import EdgeAttentionContract, evaluate, make_graph

pytest.importorskip("triton", reason="Triton is not installed: make extras")

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
ON_GPU = torch.cuda.is_available() and not INTERPRETED


if INTERPRETED or ON_GPU:

    class TestTriton(EdgeAttentionContract):
        backend = "triton"
        device = "cuda" if ON_GPU else "cpu"

        @pytest.fixture(autouse=True)
        def small_blocks(self, monkeypatch):
            """Rows and columns of several blocks, and columns of several programs, in small graphs."""
            monkeypatch.setattr(triton, "_TILE", 128)
            monkeypatch.setattr(triton, "STRETCH", 3)
            assert triton.blocks(2, 16)["BLOCK_E"] == 4

        def make_graph(self, kind):
            """Cut down, for the interpreter is slow."""
            return super().make_graph(kind) if ON_GPU else first_nodes(super().make_graph(kind), 6)

        @pytest.mark.parametrize("stretch", [1, 2, 8, 40])
        def test_columns_of_many_programs(self, stretch, monkeypatch):
            monkeypatch.setattr(triton, "STRETCH", stretch)
            for kind in ("random", "repeated"):
                graph = self.make_graph(kind)
                self.check(graph, self.make_inputs(graph, 1, 3))

        def test_heads_of_many_programs(self):
            assert triton.blocks(3, 300)["BLOCK_H"] == 1
            graph = self.make_graph("one node")
            self.check(graph, self.make_inputs(graph, 3, 300), dropout=0.2)

        def test_views_of_different_tensors(self, graph):
            generator = torch.Generator().manual_seed(5)
            shapes = [(graph.num_nodes, parts, 2, 8) for parts in (1, 2, 3)]
            wide = [torch.randn(s, generator=generator).to(self.device).requires_grad_() for s in shapes]
            found, expected = (
                edge_attention(*(t[:, -1] for t in wide), None, graph, backend=name) for name in ("triton", "reference")
            )
            torch.testing.assert_close(found, expected)
            gradients = [torch.autograd.grad(out.square().sum(), wide) for out in (found, expected)]
            torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)

        def test_large_blocks(self, graph, monkeypatch):
            monkeypatch.setattr(triton, "_TILE", 4096)
            self.check(graph, self.make_inputs(graph, 3, 5), dropout=0.2)


def first_nodes(graph, count):
    inside = (graph.row < count) & (graph.col < count)
    edges = (t[inside] for t in (graph.row, graph.col, graph.distance, graph.edge_type))
    return EdgeGraph.from_edges(min(count, graph.num_nodes), *edges)[0]


EVERY_DAY = "agrees or half_precision or hidden or test_dropout or views or programs or large_blocks"


@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter")
@pytest.mark.parametrize(
    "chosen", [pytest.param(EVERY_DAY, id="every day"), pytest.param("TestTriton", id="all", marks=pytest.mark.slow)]
)
def test_in_the_interpreter(chosen):
    """Triton reads the variable when Python begins, so that this file is run once more, by another."""
    options = ["-qx", "--noconftest", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", __file__, *options, "-k", chosen],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 15, done.stdout


@pytest.mark.skipif(INTERPRETED or ON_GPU, reason="triton runs here")
def test_needs_a_gpu():
    graph = make_graph("random")
    x = torch.ones(graph.num_nodes, 1, 4)
    with pytest.raises(ValueError, match=r"^triton needs tensors on a CUDA device, not 'cpu', or TRITON_INTERPRET=1 "):
        edge_attention(x, x, x, None, graph, backend="triton")


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 32), (12, 64), (1, 3000), (200, 2)])
def test_blocks_hold_little(shape):
    block = triton.blocks(*shape)
    edges, heads, channels = (block[f"BLOCK_{name}"] for name in "EHD")
    assert channels >= shape[1]
    assert all(n & (n - 1) == 0 for n in (edges, heads, channels, block["num_warps"]))
    assert edges * heads * channels <= max(4096, channels)


class GPUThatIsNotThere:
    """A driver for which Triton compiles, but that runs nothing."""

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0

    def get_current_target(self):
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    """Kernels, by their names, that a call of the op compiled for an H100 instead of running them."""
    from triton.runtime import driver

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernels = vars(triton._kernels.__wrapped__())
    found = {}

    class Compile:
        def __init__(self, name):
            self.name = name

        def __getitem__(self, grid):
            def launch(*args, **constants):
                found[self.name] = kernels[self.name].warmup(*args, grid=grid, **constants)

            return launch

    monkeypatch.setattr(triton, "_kernels", lambda: SimpleNamespace(**{name: Compile(name) for name in kernels}))
    monkeypatch.setattr(driver, "_active", GPUThatIsNotThere())
    return found


@pytest.mark.skipif(INTERPRETED or ON_GPU, reason="nothing is compiled, or it is run as well")
@pytest.mark.parametrize(
    ("dtype", "biased", "dropout"),
    [(torch.float32, True, 0.0), (torch.bfloat16, True, 0.7), (torch.float16, False, 0.1)],
)
def test_compiles_for_a_gpu(dtype, biased, dropout, compiled, monkeypatch):
    monkeypatch.setattr(triton, "STRETCH", 16)
    monkeypatch.setattr(triton, "interpreted", lambda: True)  # so that tensors may be on the CPU
    graph = make_graph("random")
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(graph.num_nodes, 8, 32, generator=generator).to(dtype).requires_grad_() for _ in range(3))
    bias = torch.randn(graph.num_edges, 8, generator=generator, requires_grad=True)
    evaluate("triton", graph, [q, k, v, bias][: 4 if biased else 3], dropout=dropout)
    assert compiled.keys() == {"forward", "backward_rows", "backward_columns", "add_shares"}
    for kernel in compiled.values():
        assert len(kernel.asm["cubin"]) > 0
        assert kernel.metadata.shared <= 48 * 1024
        assert "ld.global.v4" in kernel.asm["ptx"]  # 16 bytes at a time
    # Scores' gradients pass from thread to thread through memory.
    assert compiled["backward_rows"].asm["ttgir"].count("barrier") >= 2
