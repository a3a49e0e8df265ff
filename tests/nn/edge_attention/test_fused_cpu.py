import hashlib
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from stgraph.nn import threads
from stgraph.nn.edge_attention import EdgeGraph, edge_attention, fused_cpu, fused_cpu_kernels, vectors
from stgraph.testing.edge_attention import EdgeAttentionContract, evaluate, make_graph


class TestFusedCPU(EdgeAttentionContract):
    backend = "fused-cpu"

    def test_channels_of_values_and_queries_are_the_same(self, graph):
        q, k, v, bias = self.make_inputs(graph)
        with pytest.raises(ValueError, match="needs q, k and v of shape"):
            edge_attention(q, k, v[..., :3], bias, graph, backend="fused-cpu")


@st.composite
def graphs(draw):
    nodes = draw(st.integers(1, 12))
    ends = st.lists(st.tuples(*[st.integers(0, nodes - 1)] * 2), max_size=60)
    pairs = torch.tensor(draw(ends), dtype=torch.long).view(-1, 2)
    return EdgeGraph.from_edges(nodes, *pairs.t(), torch.zeros(len(pairs)), torch.zeros(len(pairs), dtype=torch.long))[
        0
    ]


@given(
    graph=graphs(),
    heads=st.integers(1, 5),
    channels=st.sampled_from([1, 5, 16]),
    dtype=st.sampled_from(TestFusedCPU.dtypes),
    biased=st.booleans(),
    dropout=st.sampled_from([0.0, 0.4]),
    hidden=st.sampled_from([0.0, 0.2, 0.9]),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_agrees_on_any_graph(graph, heads, channels, dtype, biased, dropout, hidden, seed):
    contract = TestFusedCPU()
    inputs = contract.make_inputs(graph, heads, channels, dtype, seed)
    if biased:
        hide = torch.rand(inputs[3].shape, generator=torch.Generator().manual_seed(seed)) < hidden
        inputs[3] = inputs[3].detach().masked_fill(hide, -torch.inf).requires_grad_()
    contract.check(graph, inputs if biased else inputs[:3], dropout=dropout)


def large():
    """Enough work for several threads."""
    generator = torch.Generator().manual_seed(0)
    row, col = torch.randint(700, (2, 9000), generator=generator)
    row = torch.where(row < 300, 0, row)  # one row has nearly half of the edges
    graph = EdgeGraph.from_edges(700, row, col, torch.zeros(9000), torch.zeros(9000, dtype=torch.long))[0]
    return graph, TestFusedCPU().make_inputs(graph, 8, 32)


@pytest.fixture
def pools(monkeypatch):
    """Sizes of the pools of threads that were started, on a machine of eight cores."""
    sizes = []
    before, pool = torch.get_num_threads(), threads.ThreadPoolExecutor
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(threads, "ThreadPoolExecutor", lambda number: sizes.append(number) or pool(number))
    yield sizes
    torch.set_num_threads(before)


def test_any_number_of_threads_gives_the_same_bits(pools):
    graph, inputs = large()
    results = []
    for number in (1, 2, 4):
        torch.set_num_threads(number)
        results.append(evaluate("fused-cpu", graph, inputs, dropout=0.1))
    assert set(pools) == {2, 4}  # one thread needs no pool
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_a_thread_is_not_started_for_nothing(pools):
    torch.set_num_threads(8)
    graph = make_graph("random")
    evaluate("fused-cpu", graph, TestFusedCPU().make_inputs(graph))
    assert pools == []


def _in_child(queue):
    torch.set_num_threads(1)  # the threads of torch itself do not outlive a fork
    graph, inputs = large()
    queue.put([t.sum().item() for t in evaluate("fused-cpu", graph, inputs)])


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_works_in_a_forked_child(pools, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)  # ours alone
    graph, inputs = large()
    expected = [t.sum().item() for t in evaluate("fused-cpu", graph, inputs)]
    assert set(pools) == {3}
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue,))
    child.start()
    try:
        assert queue.get(timeout=60) == pytest.approx(expected, rel=1e-5)
    finally:
        child.kill()
        child.join(10)


def test_works_where_no_cache_can_be_written(monkeypatch):
    def nowhere(function, **options):
        code = function.__code__.replace(co_filename="no/such/file.py")
        moved = FunctionType(code, function.__globals__, closure=function.__closure__)
        return compiled(moved, **options)

    compiled = fused_cpu_kernels.compiled
    monkeypatch.setattr(fused_cpu_kernels, "compiled", nowhere)
    fused_cpu_kernels.kernels.cache_clear()
    try:
        graph = make_graph("random")
        TestFusedCPU().check(graph, TestFusedCPU().make_inputs(graph, 1, 2))
        assert fused_cpu_kernels.kernels(2)[0].stats.cache_path is None
    finally:
        fused_cpu_kernels.kernels.cache_clear()


def test_kernels_on_disk_belong_to_the_vector_instructions():
    """Else a new version of these would go on with the machine code of the old one."""
    version = hashlib.sha256(Path(vectors.__file__).read_bytes()).hexdigest()[:8]
    graph = make_graph("random")
    TestFusedCPU().check(graph, TestFusedCPU().make_inputs(graph))
    for kernel in fused_cpu_kernels.kernels(16):
        assert list(Path(kernel.stats.cache_path).glob(f"*{kernel.py_func.__name__}*{version}*.nbi"))


def test_kernels_are_kept_on_disk():
    assert all(kernel.stats.cache_path is not None for kernel in fused_cpu_kernels.kernels(16))


class _Sizes(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.bytes = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for t in tree_leaves(result):
            if isinstance(t, torch.Tensor):
                storage = t.untyped_storage()
                self.bytes[storage.data_ptr()] = storage.nbytes()
        return result


def test_nothing_of_edges_times_channels_is_made(monkeypatch):
    """Beside what is returned there are numbers per edge and head, and per node and head."""
    graph, inputs = large()
    _ = graph.transposed
    made = []
    empty = fused_cpu.np.empty
    monkeypatch.setattr(fused_cpu.np, "empty", lambda *a, **k: made.append(empty(*a, **k)) or made[-1])
    q, k, v, bias = inputs
    with _Sizes() as sizes:
        out, _ = edge_attention(q, k, v, bias, graph, return_logits=True, backend="fused-cpu")
        out.backward(torch.ones_like(out))
    assert max(sizes.bytes.values()) <= max(q.nbytes, bias.nbytes)
    # out, its gradient, those of q, k, v; logits, weights, gradients of scores and bias; maximum and norm
    assert sum(sizes.bytes.values()) <= 5 * q.nbytes + 4 * bias.nbytes + 2 * q.nbytes // 32 + 1000
    assert sum(array.nbytes for array in made) == 0


def test_importing_the_op_compiles_nothing():
    modules = "{'numba', 'dgl', 'torch_scatter', 'triton'}"
    code = (
        f"import sys, torch, torch_geometric; before = set(sys.modules); import stgraph.nn.edge_attention; "
        f"assert not {modules} & (set(sys.modules) - before)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_inference_sorts_nothing():
    graph = make_graph("random")
    inputs = TestFusedCPU().make_inputs(graph)
    with torch.no_grad():
        found = edge_attention(*inputs, graph, backend="fused-cpu")
    edge_attention(*[t.detach() for t in inputs], graph, backend="fused-cpu")
    assert graph._transposed is None
    assert torch.equal(found, edge_attention(*inputs, graph, backend="fused-cpu"))
    assert graph._transposed is not None
