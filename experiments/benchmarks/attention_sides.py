"""Attention along edges as it can be had elsewhere, each library in its own best form.

A side is ``prepare(problem) -> attend``: what does not change from step to step is made once, outside what is timed;
``attend(q, k, v, bias)`` gives the output (N, H, D) and the logits (E, H).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention
from torch_geometric import EdgeIndex
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import softmax

from stgraph._dgl import import_dgl
from stgraph.nn.edge_attention import EdgeGraph, edge_attention
from stgraph.nn.edge_attention.backends import Backend
from stgraph.partition.space_filling import hilbert_order

Attend = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Problem:
    """What is to be computed: q, k, v (N, H, D), bias (E, H), and the gradients that come back."""

    graph: EdgeGraph
    inputs: tuple[Tensor, Tensor, Tensor, Tensor]
    grads: tuple[Tensor, Tensor]

    def like_values(self) -> "Problem":
        """With bias and gradient of the logits in the type of q, k, v, as other libraries have them."""
        *qkv, bias = self.inputs
        out, logits = self.grads
        given = bias.detach().to(qkv[0].dtype).requires_grad_()
        return replace(self, inputs=(*qkv, given), grads=(out, logits.to(qkv[0].dtype)))

    def to(self, device: str) -> "Problem":
        graph = EdgeGraph(*(getattr(self.graph, f).to(device) for f in ("ptr", "row", "col", "distance", "edge_type")))
        return Problem(
            graph,
            tuple(t.detach().to(device).requires_grad_() for t in self.inputs),  # type: ignore[arg-type]
            tuple(t.to(device) for t in self.grads),  # type: ignore[arg-type]
        )


def problem(
    n: int, k: int, heads: int, channels: int, dtype: torch.dtype, *, order: str = "hilbert", part: int = 0
) -> Problem:
    """Each of N cells on a jittered lattice attends to its k nearest; within parts of ``part`` cells, if any."""
    rng = np.random.default_rng(0)
    side = math.ceil(n**0.5)
    lattice = np.stack(np.divmod(rng.permutation(side**2)[:n], side), axis=1)
    pos = lattice + rng.uniform(-0.4, 0.4, (n, 2))
    if order == "hilbert":
        pos = pos[hilbert_order(pos)]
    length, near = cKDTree(pos).query(pos, k=k + 1, workers=-1)
    col = np.sort(near[:, 1:], axis=1).ravel()
    row = np.repeat(np.arange(n), k)
    if part:
        inside = row // part == col // part
        row, col, length = row[inside], col[inside], length[:, 1:].ravel()[inside]
    else:
        length = length[:, 1:].ravel()
    index = torch.from_numpy(row), torch.from_numpy(col)
    graph, _ = EdgeGraph.from_edges(
        n, *index, torch.from_numpy(length).float(), torch.zeros(len(row), dtype=torch.long)
    )
    draw = torch.Generator().manual_seed(0)
    q, key, v, grad = (torch.randn(n, heads, channels, generator=draw).to(dtype) for _ in range(4))
    bias, grad_logits = (torch.randn(len(row), heads, generator=draw) for _ in range(2))
    return Problem(graph, tuple(t.requires_grad_() for t in (q, key, v, bias)), (grad, grad_logits))  # type: ignore[arg-type]


def step(given: Problem, attend: Attend) -> tuple[Tensor, ...]:
    """Forward and backward: output, logits, and the gradients of q, k, v and bias."""
    results = attend(*given.inputs)
    # A side that keeps no logits gets no gradient of them.
    wanted = [(result, grad) for result, grad in zip(results, given.grads, strict=True) if result is not None]
    outputs, grads = zip(*wanted, strict=True)
    return (*results, *torch.autograd.grad(outputs, given.inputs, grads))


def ours(backend: Backend) -> Callable[[Problem], Attend]:
    def prepare(given: Problem) -> Attend:
        return lambda q, k, v, bias: edge_attention(q, k, v, bias, given.graph, return_logits=True, backend=backend)

    return prepare


class BiasedAttention(MessagePassing):
    """As PyG's TransformerConv passes messages, with a number per edge and head where that has a vector."""

    def __init__(self) -> None:
        super().__init__(aggr="add", node_dim=0)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, edge_index: Tensor
    ) -> tuple[Tensor, Tensor]:
        out = self.propagate(edge_index, query=query, key=key, value=value, bias=bias)
        logits, self._logits = self._logits, None
        return out, logits

    def message(self, query_i, key_j, value_j, bias, index, ptr, size_i):  # type: ignore[no-untyped-def]
        logits = (query_i * key_j).sum(dim=-1) / math.sqrt(query_i.shape[-1]) + bias
        self._logits = logits
        return value_j * softmax(logits, index, ptr, size_i).unsqueeze(-1)


def pyg(given: Problem) -> Attend:
    layer, edge_index = BiasedAttention(), torch.stack([given.graph.col, given.graph.row])
    return lambda q, k, v, bias: layer(q, k, v, bias, edge_index)


def pyg_sorted(given: Problem) -> Attend:
    """Told that edges are sorted: PyG then reduces by segments."""
    n = given.graph.num_nodes
    index = EdgeIndex(torch.stack([given.graph.col, given.graph.row]), sparse_size=(n, n), sort_order="col")
    index.fill_cache_()
    layer = BiasedAttention()
    return lambda q, k, v, bias: layer(q, k, v, bias, index)


def torch_scatter(given: Problem) -> Attend:
    """Segments of sorted edges: the package's fastest."""
    from torch_scatter import gather_csr, segment_csr  # noqa: PLC0415 - optional

    ptr, col = given.graph.ptr, given.graph.col

    def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        logits = (gather_csr(q, ptr) * k.index_select(0, col)).sum(dim=-1) / math.sqrt(q.shape[-1]) + bias
        largest = segment_csr(logits.detach(), ptr, reduce="max")
        weight = (logits - gather_csr(largest, ptr)).exp()
        weight = weight / gather_csr(segment_csr(weight, ptr), ptr)
        return segment_csr(weight.unsqueeze(-1) * v.index_select(0, col), ptr), logits

    return attend


def dgl(given: Problem) -> Attend:
    library = import_dgl()
    ops, edge_softmax = library.ops, library.nn.functional.edge_softmax
    graph = library.graph((given.graph.col, given.graph.row), num_nodes=given.graph.num_nodes)
    graph.create_formats_()

    def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        logits = ops.v_dot_u(graph, q, k) / math.sqrt(q.shape[-1]) + bias.unsqueeze(-1)
        return ops.u_mul_e_sum(graph, v, edge_softmax(graph, logits)), logits.squeeze(-1)

    return attend


def dense(part: int, *, logits: bool) -> Callable[[Problem], Attend]:
    """Part by part, all pairs, with -inf in the additive mask where there is no edge and the bias where there is one.

    Without logits by scaled_dot_product_attention, which gives none.
    """

    def prepare(given: Problem) -> Attend:
        row, col = given.graph.row, given.graph.col
        parts = -(-given.graph.num_nodes // part)
        counts = torch.bincount(row // part, minlength=parts).tolist()
        places = ((row % part) * part + col % part).split(counts)

        def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
            heads, channels = q.shape[1:]
            q, k, v = (t.view(parts, part, heads, channels).transpose(1, 2) for t in (q, k, v))
            found = [
                of_part(*given, logits=logits)
                for given in zip(q.unbind(), k.unbind(), v.unbind(), bias.split(counts), places, strict=True)
            ]
            out = torch.stack([result for result, _ in found]).transpose(1, 2).reshape(-1, heads, channels)
            return out, torch.cat([edges for _, edges in found]) if logits else None  # type: ignore[return-value]

        return attend

    def of_part(
        q: Tensor, k: Tensor, v: Tensor, bias: Tensor, place: Tensor, *, logits: bool
    ) -> tuple[Tensor, Tensor | None]:
        heads, n, channels = q.shape
        nowhere = bias.new_full((heads, n * n), -torch.inf)
        if not logits:
            mask = nowhere.index_copy_(1, place, bias.t()).view(1, heads, n, n)
            return F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask)[0], None
        product = (q * channels**-0.5) @ k.transpose(1, 2)
        edges = product.view(heads, n * n).index_select(1, place) + bias.t()
        # The same as adding a mask, with fewer passes over all pairs.
        score = nowhere.index_copy_(1, place, edges).view(heads, n, n)
        return score.softmax(dim=-1) @ v, edges.t()

    return prepare


def flex(part: int) -> Callable[[Problem], Attend]:
    """FlexAttention on parts, compiled; the bias of a pair is looked up in a dense table, -inf off the edges."""

    def prepare(given: Problem) -> Attend:
        attention = torch.compile(flex_attention)
        row, col = given.graph.row, given.graph.col
        parts, heads = -(-given.graph.num_nodes // part), given.inputs[0].shape[1]
        pair = (row // part, slice(None), row % part, col % part)

        def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
            if not torch.is_grad_enabled():  # on the CPU it refuses inputs that want a gradient, even then
                q, k, v, bias = (t.detach() for t in (q, k, v, bias))
            everywhere = bias.new_full((parts, heads, part, part), -torch.inf)
            everywhere[pair] = bias

            def score(product: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
                return product + everywhere[b, h, i, j]

            q, k, v = (t.view(parts, part, heads, -1).transpose(1, 2) for t in (q, k, v))
            out = attention(q, k, v, score_mod=score)
            return out.transpose(1, 2).reshape(parts * part, heads, -1), None  # type: ignore[return-value]

        return attend

    return prepare
