"""The contract of a backend of edge attention."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from stgraph.nn.edge_attention import EdgeGraph, edge_attention
from stgraph.nn.edge_attention.backends import Backend

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}
"""Of what a backend returns, by the type of its inputs, relative to the largest number of the tensor or to 1."""

SPARSE_GRAPHS = ("random", "uneven", "repeated", "no edges")
COMPLETE_GRAPHS = ("parts", "equal parts", "one node", "no nodes")


class EdgeAttentionContract:
    """Inherit, and name the ``backend``: it does what the backend ``"reference"`` does.

    Examples
    --------
    >>> from stgraph.testing.edge_attention import EdgeAttentionContract
    >>> class TestFusedCPU(EdgeAttentionContract):
    ...     backend = "fused-cpu"
    """

    backend: ClassVar[Backend]

    dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.float32, torch.bfloat16, torch.float16)
    """What it takes; it refuses every other with one sentence."""
    complete: ClassVar[bool] = False
    """Whether it takes only graphs of all pairs, and refuses others with one sentence."""
    fullgraph: ClassVar[bool] = True
    """Whether `torch.compile` makes one graph of it."""
    twice: ClassVar[bool] = False
    """Whether gradients of gradients are there; if not, asking for them is an error."""
    device: ClassVar[str] = "cpu"

    @pytest.fixture
    def graph(self) -> EdgeGraph:
        """With rows of different lengths; some are empty if the backend takes such."""
        return self.make_graph("parts" if self.complete else "random")

    def make_graph(self, kind: str) -> EdgeGraph:
        """One of ``SPARSE_GRAPHS`` or ``COMPLETE_GRAPHS``."""
        graph = make_graph(kind)
        tensors = {
            name: getattr(graph, name).to(self.device) for name in ("ptr", "row", "col", "distance", "edge_type")
        }
        return replace(graph, **tensors)

    def make_inputs(
        self, graph: EdgeGraph, heads: int = 2, channels: int = 16, dtype: torch.dtype = torch.float32, seed: int = 1
    ) -> list[Tensor]:
        """Random q, k, v (N, H, D) and bias (E, H) that need gradients."""
        generator = torch.Generator().manual_seed(seed)
        shapes = [(graph.num_nodes, heads, channels)] * 3 + [(graph.num_edges, heads)]
        return [torch.randn(s, generator=generator).to(self.device, dtype).requires_grad_() for s in shapes]

    def check(self, graph: EdgeGraph, inputs: list[Tensor], *, dropout: float = 0.0) -> list[Tensor]:
        """Value, logits and gradients are those of the reference; returns them."""
        found = evaluate(self.backend, graph, inputs, dropout=dropout)
        assert found[0].dtype == inputs[2].dtype
        assert found[1].dtype == torch.promote_types(inputs[0].dtype, torch.float32)
        assert [g.dtype for g in found[2:]] == [t.dtype for t in inputs]
        expected = evaluate("reference", graph, [_exact(t) for t in inputs], dropout=dropout)
        _assert_close(found, expected, TOLERANCE[inputs[0].dtype])
        return found

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize(("heads", "channels"), [(1, 1), (3, 5), (8, 32), (2, 77)])
    def test_agrees(self, graph: EdgeGraph, heads: int, channels: int, dtype: torch.dtype) -> None:
        """Value, logits and all gradients, for any number of heads and channels."""
        self._need(dtype)
        self.check(graph, self.make_inputs(graph, heads, channels, dtype))

    @pytest.mark.parametrize("kind", SPARSE_GRAPHS + COMPLETE_GRAPHS)
    def test_any_graph(self, kind: str) -> None:
        """Empty rows, no edges or nodes at all, edges there twice, very uneven rows."""
        if self.complete and kind not in COMPLETE_GRAPHS:
            pytest.skip("takes only all pairs")
        graph = self.make_graph(kind)
        inputs = self.make_inputs(graph)
        out, *_ = self.check(graph, inputs)
        assert (out[graph.ptr.diff() == 0] == 0).all()
        self.check(graph, inputs[:3])
        for bias in (inputs[3], inputs[3].detach(), None):
            given = [*inputs[:3]] if bias is None else [*inputs[:3], bias]
            both = [output(backend, graph, given) for backend in (self.backend, "reference")]
            _assert_close(both[:1], both[1:], TOLERANCE[torch.float32])

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("biased", [True, False])
    def test_half_precision_in_and_out_float32_between(
        self, graph: EdgeGraph, dtype: torch.dtype, biased: bool
    ) -> None:
        """The oracle gets the same rounded numbers in float32, so that only what is between and comes out differs."""
        self._need(dtype)
        for heads, channels in ((3, 5), (2, 64)):
            self.check(graph, self.make_inputs(graph, heads, channels, dtype)[: 4 if biased else 3])

    def test_bias_keeps_its_precision(self, graph: EdgeGraph) -> None:
        """A float32 bias, such as the pair state, is not rounded to the halves of the queries."""
        self._need(torch.bfloat16)
        q, k, v, _ = self.make_inputs(graph, dtype=torch.bfloat16)
        bias = (torch.linspace(0, 1, graph.num_edges, device=self.device)[:, None] + 300.0).expand(-1, 2)
        for logits in (True, False):
            given, exact = [q, k, v, bias], [q.float(), k.float(), v.float(), bias]
            if logits:
                found, expected = attended(self.backend, graph, given), attended("reference", graph, exact)
                _assert_close([*found], [*expected], TOLERANCE[q.dtype])
            else:
                alone, right = output(self.backend, graph, given), output("reference", graph, exact)
                _assert_close([alone], [right], TOLERANCE[q.dtype])

    def test_hidden_edges(self, graph: EdgeGraph) -> None:
        """A bias of minus infinity hides an edge; a row of nothing else is as if empty."""
        *qkv, bias = self.make_inputs(graph)
        first, last = 1, graph.num_nodes - 1
        hidden = torch.zeros_like(bias, dtype=torch.bool)
        hidden[graph.ptr[last] : graph.ptr[last + 1]] = True
        hidden[graph.ptr[first], 0] = True
        assert 0 < hidden.sum() < hidden.numel()
        bias = bias.detach().masked_fill(hidden, -torch.inf).requires_grad_()
        for inputs in ([*qkv, bias], [*qkv, bias.detach()]):
            out, *_ = self.check(graph, inputs)
            assert (out[last] == 0).all()
            without_logits = output(self.backend, graph, inputs)
            _assert_close([without_logits], [out], TOLERANCE[torch.float32])
            assert (without_logits[last] == 0).all()
            needed = [t for t in inputs if t.requires_grad]
            assert all(g.isfinite().all() for g in torch.autograd.grad(without_logits.square().sum(), needed))

    @pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # Triton's interpreter is NumPy's
    @pytest.mark.parametrize("dropout", [0.0, 0.5])
    @pytest.mark.parametrize("number", [torch.nan, torch.inf])
    def test_divergence_is_not_hidden(self, graph: EdgeGraph, number: float, dropout: float) -> None:
        """A logit that is no number, or infinite, spoils its row as in the reference, and no other row."""
        inputs = [t.detach() for t in self.make_inputs(graph)]
        edge = int(graph.num_edges // 2)
        for at, place in ((0, (int(graph.row[edge]), 0, 0)), (3, (edge, 0))):
            spoilt = [t.clone() for t in inputs]
            spoilt[at][place] = number
            spoilt = [t.requires_grad_() for t in spoilt]
            results = []
            for backend in (self.backend, "reference"):
                torch.manual_seed(7)
                out, logits = attended(backend, graph, spoilt, dropout)
                (of_values,) = torch.autograd.grad(out.sum(), spoilt[2])
                torch.manual_seed(7)
                results.append([out, logits, output(backend, graph, spoilt, dropout), of_values])
            for found, expected in zip(*results, strict=True):
                assert torch.equal(found.isnan(), expected.isnan())
            assert results[0][0][int(graph.row[edge]), 0].isnan().all()

    @pytest.mark.parametrize("size", [1e4, -1e4])
    def test_large_logits(self, graph: EdgeGraph, size: float) -> None:
        """The exponential of none overflows; far from zero, logits themselves are as coarse as float32 is there."""
        q, k, v, bias = self.make_inputs(graph)
        found = evaluate(self.backend, graph, [q, k, v, (bias.detach() + size).requires_grad_()])
        _assert_close(found, evaluate("reference", graph, [q, k, v, (bias.detach() + size).requires_grad_()]), 5e-3)
        assert all(t.isfinite().all() for t in found)
        big = [(t.detach() * 100).requires_grad_() for t in (q, k)]
        found, expected = (evaluate(name, graph, [*big, v, bias]) for name in (self.backend, "reference"))
        _assert_close(found, expected, 5e-3)

    def test_dropout(self, graph: EdgeGraph) -> None:
        """It drops what the reference drops, in value and gradient."""
        for dropout in (0.1, 0.7):
            for inputs in (self.make_inputs(graph), self.make_inputs(graph)[:3]):
                dropped = self.check(graph, inputs, dropout=dropout)
                whole = evaluate(self.backend, graph, inputs)
                assert not torch.equal(dropped[0], whole[0])
                torch.testing.assert_close(dropped[1], whole[1])

    def test_each_call_drops_others(self, graph: EdgeGraph) -> None:
        """And the same ones after the same ``torch.manual_seed``; without logits too."""
        inputs = self.make_inputs(graph)
        torch.manual_seed(0)
        first, second = (output(self.backend, graph, inputs, 0.5) for _ in range(2))
        torch.manual_seed(0)
        again = output(self.backend, graph, inputs, 0.5)
        torch.manual_seed(0)
        expected = output("reference", graph, inputs, 0.5)
        assert not torch.equal(first, second)
        assert torch.equal(first, again)
        _assert_close([first], [expected], TOLERANCE[torch.float32])

    def test_same_bits_twice(self, graph: EdgeGraph) -> None:
        """Nothing depends on the order in which threads come by."""
        inputs = self.make_inputs(graph)
        for dropout in (0.0, 0.3):
            first, second = (evaluate(self.backend, graph, inputs, dropout=dropout) for _ in range(2))
            assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))

    def test_order_of_nodes(self, graph: EdgeGraph) -> None:
        """Permuted nodes and edges have the permuted outputs and gradients."""
        inputs = self.make_inputs(graph)
        order, permuted, edges = _permuted(graph)
        moved = [t.detach()[edges if at == 3 else order].requires_grad_() for at, t in enumerate(inputs)]
        found = evaluate(self.backend, permuted, moved, order=order, edges=edges)
        expected = evaluate(self.backend, graph, inputs)
        back = [t[edges if at in {1, 5} else order] for at, t in enumerate(expected)]
        _assert_close(found, back, TOLERANCE[torch.float32])

    def test_views(self, graph: EdgeGraph) -> None:
        """Queries, keys and values may be views of one tensor; the bias and the gradients too."""
        generator = torch.Generator().manual_seed(3)
        shape = (graph.num_nodes, 2, 3, 8)
        qkv = torch.randn(shape, generator=generator).to(self.device).requires_grad_()
        bias = torch.randn(2, graph.num_edges, generator=generator).to(self.device).requires_grad_()
        results = []
        for backend in (self.backend, "reference"):
            out, logits = attended(backend, graph, [*qkv.unbind(2), bias.t()])
            # Sums hand back gradients of stride 0, and a transposed factor those of another order.
            factor = torch.arange(out.numel(), device=self.device).view(out.shape[::-1]).permute(2, 1, 0) / out.numel()
            loss = (out * factor).sum() + logits[:, 0].sum()
            results.append([out, logits, *torch.autograd.grad(loss, [qkv, bias])])
        _assert_close(results[0], results[1], TOLERANCE[torch.float32])

    def test_graphs_of_views(self, graph: EdgeGraph) -> None:
        """Rows, columns and pointers may lie anywhere in memory."""
        inputs = self.make_inputs(graph)
        ptr, row, col = (torch.stack([t, -1 - t], dim=1)[:, 0] for t in (graph.ptr, graph.row, graph.col))
        assert not any(t.is_contiguous() for t in (ptr, row, col))
        self.check(replace(graph, ptr=ptr, row=row, col=col), inputs)

    def test_inputs_are_not_changed(self, graph: EdgeGraph) -> None:
        """Nor is the graph."""
        inputs = self.make_inputs(graph)
        tensors = [*inputs, graph.ptr, graph.row, graph.col]
        before = [t.detach().clone() for t in tensors]
        evaluate(self.backend, graph, inputs, dropout=0.2)
        assert all(torch.equal(a, b) for a, b in zip(tensors, before, strict=True))

    @pytest.mark.parametrize("needed", ["q", "k", "v", "bias", "kv", "none"])
    def test_gradients_of_some(self, graph: EdgeGraph, needed: str) -> None:
        """Only what needs a gradient gets one, and the right one."""
        inputs = self.make_inputs(graph)
        for name, tensor in zip(("q", "k", "v", "bias"), inputs, strict=True):
            tensor.requires_grad_(name == needed or (name in needed and needed == "kv"))
        self.check(graph, inputs)

    @pytest.mark.parametrize("use", ["out", "logits", "no logits asked for"])
    def test_gradients_through_one_result(self, graph: EdgeGraph, use: str) -> None:
        """A loss may read the output alone or the logits alone."""
        inputs = self.make_inputs(graph)
        gradients = []
        for backend in (self.backend, "reference"):
            if use == "no logits asked for":
                result = output(backend, graph, inputs)
            else:
                result = attended(backend, graph, inputs)[use == "logits"]
            loss = result.square().sum()
            gradients.append(list(torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)))
        _assert_close(gradients[0], gradients[1], TOLERANCE[torch.float32])

    def test_gradients_of_gradients(self, graph: EdgeGraph) -> None:
        """They are right or refused, never wrong."""
        inputs = self.make_inputs(graph, channels=3)

        def second(backend: Backend) -> list[Tensor]:
            out, logits = attended(backend, graph, inputs)
            first = torch.autograd.grad(out.square().sum() + logits.square().sum(), inputs, create_graph=True)
            loss = torch.stack([g.square().sum() for g in first]).sum()
            return list(torch.autograd.grad(loss, inputs))

        if self.twice:
            _assert_close(second(self.backend), second("reference"), 10 * TOLERANCE[torch.float32])
        else:
            with pytest.raises(RuntimeError, match="no gradients of gradients"):
                second(self.backend)

    def test_forward_mode(self, graph: EdgeGraph) -> None:
        """Derivatives along tangents are right or refused, never left out."""
        inputs = [t.detach() for t in self.make_inputs(graph)]

        def along(backend: Backend, at: int) -> Tensor:
            def function(moved: Tensor) -> Tensor:
                return output(backend, graph, [*inputs[:at], moved, *inputs[at + 1 :]])

            derivative: Tensor = torch.func.jvp(function, (inputs[at],), (torch.ones_like(inputs[at]),))[1]
            return derivative

        for at in range(4):
            try:
                found = along(self.backend, at)
            except (RuntimeError, NotImplementedError):
                continue
            _assert_close([found], [along("reference", at)], 10 * TOLERANCE[torch.float32])

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_autocast(self, graph: EdgeGraph, dtype: torch.dtype) -> None:
        """What a layer under autocast gives it is taken as it is; logits stay in float32."""
        self._need(dtype)
        x = self.make_inputs(graph, 1, 12)[0][:, 0]
        bias = self.make_inputs(graph)[3]
        project = torch.nn.Linear(12, 2 * 3 * 8).to(self.device)
        results = []
        for backend in (self.backend, "reference"):
            with torch.autocast(self.device, dtype):
                qkv = project(x).view(-1, 2, 3, 8).unbind(2)
                out, logits = attended(backend, graph, [*qkv, bias])
                # What was in float32 all the time stays so.
                exact, _ = attended(backend, graph, [*(t.float() for t in qkv), bias])
            assert (out.dtype, logits.dtype, exact.dtype) == (dtype, torch.float32, torch.float32)
            loss = out.float().square().sum() + logits.square().sum()
            results.append([logits, exact, out, *torch.autograd.grad(loss, [x, bias, *project.parameters()])])
        _assert_close(results[0][:2], results[1][:2], TOLERANCE[torch.float32])
        _assert_close(results[0], results[1], 2 * TOLERANCE[dtype])

    @pytest.mark.parametrize("dropout", [0.0, 0.4])
    def test_activation_checkpointing(self, graph: EdgeGraph, dropout: float) -> None:
        """Done again in the backward pass, it is the same."""
        inputs = self.make_inputs(graph)

        def loss(*tensors: Tensor) -> Tensor:
            out, logits = attended(self.backend, graph, tensors, dropout)
            return out.square().sum() + logits.square().sum()

        torch.manual_seed(5)
        expected = torch.autograd.grad(loss(*inputs), inputs)
        torch.manual_seed(5)
        found = torch.autograd.grad(checkpoint(loss, *inputs, use_reentrant=False), inputs)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))

    def test_compiles(self, graph: EdgeGraph) -> None:
        """`torch.compile` changes nothing; without the C++ compiler, which is slow and tests nothing of ours."""
        torch._dynamo.reset()
        inputs = self.make_inputs(graph)

        def scaled(*tensors: Tensor) -> tuple[Tensor, Tensor]:
            out, logits = attended(self.backend, graph, tensors)
            return out * 2, logits * 3

        compiled = torch.compile(scaled, backend="aot_eager", fullgraph=self.fullgraph)
        results = []
        for function in (compiled, scaled):
            with warnings.catch_warnings():
                if not self.fullgraph:  # where it goes on, torch looks at every tensor
                    warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
                out, logits = function(*inputs)
            results.append([out, logits, *torch.autograd.grad(out.square().sum() + logits.square().sum(), inputs)])
        _assert_close(results[0], results[1], TOLERANCE[torch.float32])

    def test_training_after_inference(self, graph: EdgeGraph) -> None:
        """What a graph keeps from ``torch.inference_mode`` can be trained with."""
        inputs = self.make_inputs(graph)
        with torch.inference_mode():
            found = output(self.backend, graph, inputs)
        with torch.no_grad():
            assert torch.equal(found, output(self.backend, graph, inputs))
        self.check(graph, inputs)

    def test_refuses_types_it_does_not_take(self, graph: EdgeGraph) -> None:
        """With one sentence that names the backend."""
        for dtype in set(TOLERANCE) - set(self.dtypes):
            with pytest.raises(ValueError, match=rf"^{self.backend} .*\.$"):
                output(self.backend, graph, self.make_inputs(graph, dtype=dtype))

    def test_refuses_graphs_it_does_not_take(self) -> None:
        """With one sentence that names the backend."""
        if not self.complete:
            pytest.skip("takes any graph")
        for kind in SPARSE_GRAPHS:
            graph = self.make_graph(kind)
            with pytest.raises(ValueError, match=rf"^{self.backend} .*\.$"):
                output(self.backend, graph, self.make_inputs(graph))

    def _need(self, dtype: torch.dtype) -> None:
        if dtype not in self.dtypes:
            pytest.skip(f"does not take {dtype}")


def make_graph(kind: str) -> EdgeGraph:
    """A small graph.

    Parameters
    ----------
    kind
        One of ``SPARSE_GRAPHS`` or ``COMPLETE_GRAPHS``.

    Returns
    -------
    EdgeGraph
        Without meaningful distances and edge types.

    Examples
    --------
    >>> from stgraph.testing.edge_attention import make_graph
    >>> make_graph("equal parts").blocks
    (6, 6, 6)
    """
    sizes = {"parts": (4, 9, 0, 1, 4), "equal parts": (6, 6, 6), "one node": (1,), "no nodes": ()}
    if kind in sizes:
        edges = sum(n * n for n in sizes[kind])
        return EdgeGraph.complete(sizes[kind], torch.ones(edges), torch.zeros(edges, dtype=torch.long))
    generator = torch.Generator().manual_seed(0)
    if kind == "uneven":  # one sees all, all see one
        others = torch.arange(1, 40)
        pairs = torch.cat([torch.stack([others * 0, others]), torch.stack([others, others * 0])], dim=1)
    elif kind == "repeated":
        pairs = torch.randint(5, (2, 40), generator=generator)
    else:
        pairs = (torch.rand(23, 23, generator=generator) < 0.3).nonzero().t()
        pairs = pairs[:, (pairs[0] != 4) & (pairs[0] != 20) & (pairs[1] != 7)]  # 4 and 20 see nobody, nobody sees 7
        pairs = pairs[:, torch.randperm(pairs.shape[1], generator=generator)]
    if kind == "no edges":
        pairs = pairs[:, :0]
    edges = pairs.shape[1]
    number = 5 if kind == "repeated" else 40 if kind == "uneven" else 23
    return EdgeGraph.from_edges(number, pairs[0], pairs[1], torch.ones(edges), torch.zeros(edges, dtype=torch.long))[0]


def attended(
    backend: Backend, graph: EdgeGraph, inputs: Sequence[Tensor], dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Output and logits of q, k, v, and maybe a bias."""
    bias = inputs[3] if len(inputs) > 3 else None
    return edge_attention(
        inputs[0], inputs[1], inputs[2], bias, graph, dropout=dropout, return_logits=True, backend=backend
    )


def output(backend: Backend, graph: EdgeGraph, inputs: Sequence[Tensor], dropout: float = 0.0) -> Tensor:
    """Output alone, without asking for logits."""
    bias = inputs[3] if len(inputs) > 3 else None
    return edge_attention(inputs[0], inputs[1], inputs[2], bias, graph, dropout=dropout, backend=backend)


def evaluate(
    backend: Backend,
    graph: EdgeGraph,
    inputs: list[Tensor],
    *,
    dropout: float = 0.0,
    order: Tensor | None = None,
    edges: Tensor | None = None,
) -> list[Tensor]:
    """Output, logits, and the gradients of inputs of a sum of both with random factors.

    Parameters
    ----------
    backend
        Name of one.
    graph
        Of the attention.
    inputs
        q, k, v, and maybe the bias; those that need no gradient get zeros.
    dropout
        Of the weights, with the same seed each time.
    order, edges
        Orders of nodes and edges to give the factors.

    Returns
    -------
    list of Tensor
        Output, logits, and a gradient for each input.
    """
    torch.manual_seed(7)
    out, logits = attended(backend, graph, inputs, dropout)
    generator = torch.Generator().manual_seed(11)
    factors = [torch.randn(t.shape, generator=generator).to(t.device) for t in (out, logits)]
    factors = [t if at is None else t[at] for t, at in zip(factors, (order, edges), strict=True)]
    # Rounded to halves for every type, so that the oracle gets the same.
    factors = [t.bfloat16().to(result.dtype) for t, result in zip(factors, (out, logits), strict=True)]
    used = [(t, f) for t, f in zip((out, logits), factors, strict=True) if t.requires_grad]
    needed = [t for t in inputs if t.requires_grad]
    gradients = iter(
        torch.autograd.grad([t for t, _ in used], needed, [f for _, f in used], allow_unused=True) if needed else ()
    )
    found = [next(gradients) if t.requires_grad else torch.zeros_like(t) for t in inputs]
    return [out.detach(), logits.detach(), *found]


def _exact(tensor: Tensor) -> Tensor:
    exact = tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32))
    return exact.requires_grad_(tensor.requires_grad)


def _permuted(graph: EdgeGraph) -> tuple[Tensor, EdgeGraph, Tensor]:
    """Order of nodes, the graph with its nodes in this order, and the order of edges; nodes stay in their parts."""
    generator = torch.Generator().manual_seed(4)
    first, orders = 0, []
    for size in graph.blocks or (graph.num_nodes,):
        orders.append(first + torch.randperm(size, generator=generator))
        first += size
    order = torch.cat(orders).to(graph.ptr.device)
    rank = torch.argsort(order)
    row, col = rank[graph.row], rank[graph.col]
    edges = torch.argsort(row * graph.num_nodes + col, stable=True)
    permuted, _ = EdgeGraph.from_edges(
        graph.num_nodes, row[edges], col[edges], graph.distance[edges], graph.edge_type[edges]
    )
    return order, replace(permuted, blocks=graph.blocks), edges


def _assert_close(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    names = ("out", "logits", "grad of q", "grad of k", "grad of v", "grad of bias")
    for at, (actual, right) in enumerate(zip(found, expected, strict=True)):
        finite = right[right.isfinite()].detach().abs()
        largest = max(1.0, float(finite.max())) if finite.numel() else 1.0
        name = names[at] if len(found) > 2 and at < len(names) else f"result {at}"
        assert actual.shape == right.shape, name
        close = torch.isclose(actual.detach().to(right.dtype), right.detach(), rtol=0, atol=tolerance * largest)
        difference = (actual - right).detach().abs()
        assert close.all(), f"{name}: differs by up to {difference[~close].max()}, with numbers up to {largest}"
