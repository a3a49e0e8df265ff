"""The contract of a layer of a graph transformer."""

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from stgraph._config import instantiate
from stgraph.nn.edge_attention import EdgeGraph
from stgraph.nn.module_config import module_config

_TOLERANCE = 2e-5
"""Of float32 states of order one, after sums in another order."""

_CELLS, _QUERIES = 12, 6


class GraphLayerContract:
    """Inherit, and give ``make``: a layer for states of 16 channels and pair states of 4 heads.

    ``channels`` and ``heads`` may be set to others. A layer in which a node hears from
    beyond its own edges sets ``local = False``; one whose arguments cannot be read off it
    gives its ``config``.

    Examples
    --------
    >>> from stgraph.nn.se2_block import SE2Block
    >>> from stgraph.testing.layers import GraphLayerContract
    >>> class TestSE2Block(GraphLayerContract):
    ...     make = staticmethod(lambda: SE2Block(16, heads=4, ffn_channels=32))
    """

    make: Callable[[], nn.Module]

    channels: ClassVar[int] = 16
    """C."""

    heads: ClassVar[int] = 4
    """H."""

    local: ClassVar[bool] = True
    """Whether a node hears from the sources of its edges only."""

    config: ClassVar[Mapping[str, Any] | None] = None
    """What the layer is built from, if that cannot be read off it."""

    @pytest.fixture
    def layer(self) -> nn.Module:
        """A layer whose every weight matters: biases and scales are moved from where they start."""
        torch.manual_seed(0)
        layer = self.make().eval()
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        return layer

    @pytest.fixture
    def graph(self) -> EdgeGraph:
        """Cells with edges to themselves; nodes that see cells and are seen by none; one node alone."""
        return _random_graph(0)

    def states(self, graph: EdgeGraph, seed: int = 1) -> tuple[Tensor, Tensor]:
        """Random states of the nodes and edges of a graph."""
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(graph.num_nodes, self.channels, generator=generator)
        return x, torch.randn(graph.num_edges, self.heads, generator=generator)

    def test_shapes_and_types_are_kept(self, layer: nn.Module, graph: EdgeGraph) -> None:
        """What comes out can go into the next layer."""
        x, pair = self.states(graph)
        _check_like(layer(x, graph, pair), x, pair)

    def test_double_precision(self, layer: nn.Module, graph: EdgeGraph) -> None:
        """In double precision the numbers are the same, and remain double."""
        x, pair = self.states(graph)
        out = layer(x, graph, pair)
        double = layer.double()(x.double(), _with(graph, distance=graph.distance.double()), pair.double())
        _check_like(double, x.double(), pair.double())
        _assert_close(out, (double[0].float(), double[1].float()))

    def test_mixed_precision(self, layer: nn.Module, graph: EdgeGraph) -> None:
        """Under autocast states remain float32, and are not far off."""
        x, pair = self.states(graph)
        out = layer(x, graph, pair)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = layer(x, graph, pair)
        _check_like(mixed, x, pair)
        for exact, rounded in zip(out, mixed, strict=True):
            assert (exact - rounded).abs().max() < 0.1 * max(1.0, float(exact.detach().abs().max()))

    def test_inputs_are_not_changed(self, layer: nn.Module, graph: EdgeGraph) -> None:
        """The states belong to the model."""
        x, pair = self.states(graph)
        layer(x, graph, pair)
        _assert_equal((x, pair), self.states(graph))

    def test_same_result_twice(self, layer: nn.Module, graph: EdgeGraph) -> None:
        """Nothing is kept from call to call; in training, one seed gives one result."""
        x, pair = self.states(graph)
        _assert_equal(layer(x, graph, pair), layer(x, graph, pair))
        layer.train()
        outs = []
        for _ in range(2):
            torch.manual_seed(3)
            outs.append(layer(x, graph, pair))
        _assert_equal(*outs)

    def test_another_graph_in_between(self, layer: nn.Module, graph: EdgeGraph) -> None:
        """Nothing is kept of the graph either: every batch is another."""
        x, pair = self.states(graph)
        other = _random_graph(5)
        other_x, other_pair = self.states(other)
        fresh = copy.deepcopy(layer)
        before = layer(x, graph, pair)
        _assert_equal(fresh(other_x, other, other_pair), layer(other_x, other, other_pair))
        _assert_equal(before, layer(x, graph, pair))

    def test_order_of_nodes_and_edges(self, layer: nn.Module, graph: EdgeGraph) -> None:
        """Nodes in another order, and the edges of each as well, give the same states in that order."""
        x, pair = self.states(graph)
        generator = torch.Generator().manual_seed(2)
        nodes, edges = (torch.randperm(n, generator=generator) for n in (graph.num_nodes, graph.num_edges))
        number = torch.argsort(nodes)
        other, order = EdgeGraph.from_edges(
            graph.num_nodes,
            number[graph.row[edges]],
            number[graph.col[edges]],
            graph.distance[edges],
            graph.edge_type[edges],
        )
        there = edges[order]
        out = layer(x, graph, pair)
        _assert_close((out[0][nodes], out[1][there]), layer(x[nodes], other, pair[there]))

    def test_two_graphs_do_not_meet(self, layer: nn.Module, graph: EdgeGraph) -> None:
        """A graph has the same states alone and in a batch."""
        other = _random_graph(7)
        first, second = self.states(graph), self.states(other, seed=8)
        n = graph.num_nodes
        both, _ = EdgeGraph.from_edges(
            n + other.num_nodes,
            torch.cat([graph.row, other.row + n]),
            torch.cat([graph.col, other.col + n]),
            torch.cat([graph.distance, other.distance]),
            torch.cat([graph.edge_type, other.edge_type]),
        )
        alone = layer(first[0], graph, first[1]), layer(second[0], other, second[1])
        together = layer(torch.cat([first[0], second[0]]), both, torch.cat([first[1], second[1]]))
        _assert_close(tuple(torch.cat(pairs) for pairs in zip(*alone, strict=True)), together)

    def test_a_node_hears_from_its_own_edges_only(self, layer: nn.Module, graph: EdgeGraph) -> None:
        """Neither the state of another node nor any edge elsewhere matters: so halos are exact."""
        if not self.local:
            pytest.skip("a node hears from beyond its own edges")
        x, pair = self.states(graph)
        out, out_pair = layer(x, graph, pair)
        for node in range(graph.num_nodes):
            own = (graph.row == node).nonzero()[:, 0]
            known = torch.zeros(graph.num_nodes, dtype=torch.bool)
            known[graph.col[own]] = known[node] = True
            apart = torch.where(known[:, None], x, x.flip(0) + 3.0)
            part, part_pair = layer(apart, _with_edges(graph, own), pair[own])
            _assert_close((out[node], out_pair[own]), (part[node], part_pair))

    def test_a_node_without_edges_is_no_matter(self, layer: nn.Module, graph: EdgeGraph) -> None:
        """It changes nothing for others, and gets finite numbers itself."""
        x, pair = self.states(graph)
        out = layer(x, graph, pair)
        assert torch.isfinite(out[0]).all()
        alone = EdgeGraph.from_edges(graph.num_nodes + 1, graph.row, graph.col, graph.distance, graph.edge_type)[0]
        more = layer(torch.cat([x, torch.full((1, self.channels), 9.0)]), alone, pair)
        assert torch.isfinite(more[0]).all()
        _assert_close(out, (more[0][:-1], more[1]))

    @pytest.mark.parametrize("nodes", [1, 3])
    def test_a_graph_without_edges(self, layer: nn.Module, nodes: int) -> None:
        """Is a graph."""
        none = torch.zeros(0, dtype=torch.long)
        graph = EdgeGraph.from_edges(nodes, none, none, torch.zeros(0), none)[0]
        x, pair = self.states(graph)
        out = layer(x, graph, pair)
        _check_like(out, x, pair)

    def test_gradients_reach_every_weight(self, layer: nn.Module, graph: EdgeGraph) -> None:
        """No weight is left out of training, and what comes before is trained through the layer."""
        x, pair = self.states(graph)
        x.requires_grad_()
        out, out_pair = layer.train()(x, graph, pair)
        (out.square().sum() + out_pair.square().sum()).backward()
        named = [*layer.named_parameters(), ("x", x)]
        bad = [name for name, p in named if p.grad is None or not torch.isfinite(p.grad).all() or not p.grad.any()]
        assert bad == []

    def test_config_and_weights_make_the_same_layer(self, layer: nn.Module, graph: EdgeGraph) -> None:
        """Config, as JSON, and state dict are all there is to a layer."""
        x, pair = self.states(graph)
        config = module_config(layer if self.config is None else self.config)
        again = instantiate(json.loads(json.dumps(config)))
        again.load_state_dict(layer.state_dict())
        _assert_equal(layer(x, graph, pair), again.eval()(x, graph, pair))


def _random_graph(seed: int) -> EdgeGraph:
    generator = torch.Generator().manual_seed(seed)
    linked = (torch.rand(_CELLS + _QUERIES, _CELLS, generator=generator) < 0.3).long()
    linked[:_CELLS].fill_diagonal_(1)
    row, col = linked.nonzero(as_tuple=True)
    itself = row == col
    distance = torch.where(itself, 0.0, 0.2 + 5 * torch.rand(len(row), generator=generator))
    kind = torch.where(itself, 3, torch.randint(0, 3, (len(row),), generator=generator))
    return EdgeGraph.from_edges(_CELLS + _QUERIES + 1, row, col, distance, kind)[0]


def _with_edges(graph: EdgeGraph, kept: Tensor) -> EdgeGraph:
    return EdgeGraph.from_edges(
        graph.num_nodes, graph.row[kept], graph.col[kept], graph.distance[kept], graph.edge_type[kept]
    )[0]


def _with(graph: EdgeGraph, distance: Tensor) -> EdgeGraph:
    return EdgeGraph(graph.ptr, graph.row, graph.col, distance, graph.edge_type)


def _check_like(out: tuple[Tensor, Tensor], x: Tensor, pair: Tensor) -> None:
    assert isinstance(out, tuple)
    assert [(each.shape, each.dtype) for each in out] == [(each.shape, each.dtype) for each in (x, pair)]
    assert all(torch.isfinite(each).all() for each in out)


def _assert_equal(expected: tuple[Tensor, ...], actual: tuple[Tensor, ...]) -> None:
    for one, other in zip(expected, actual, strict=True):
        assert torch.equal(one, other)


def _assert_close(expected: tuple[Tensor, ...], actual: tuple[Tensor, ...]) -> None:
    for one, other in zip(expected, actual, strict=True):
        torch.testing.assert_close(other, one, rtol=_TOLERANCE, atol=_TOLERANCE)
