"""Convolutions of PyG and DGL as layers of ours."""

import inspect
from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn
from torch_geometric.utils import softmax

from stgraph.errors import InputError
from stgraph.nn.edge_attention import EdgeGraph

_FEATURES = ("edge_attr", "edge_feat", "edge_feats", "efeats", "efeat")
"""What the libraries call a vector for each edge."""

_TYPES = ("edge_type", "etypes")
"""What they call its kind."""

_ITSELF = 3
"""Kind of the edge of a node to itself; see `stgraph.nn.layer.GraphLayer`."""


class _Adapter(nn.Module, ABC):
    """What the adapters share: what a foreign convolution is told of an edge, and its place in a residual block."""

    def __init__(
        self, foreign: nn.Module, channels: int, heads: int, edge_channels: int | None, residual: bool, dropout: float
    ) -> None:
        super().__init__()
        if channels < 1 or heads < 1 or not 0 <= dropout < 1:
            raise InputError(f"{type(self).__name__} needs positive channels and heads, and dropout from 0 to below 1.")
        self.channels = channels
        self.heads = heads
        self.edge_channels = edge_channels
        self.residual = residual
        self.dropout = dropout
        self.takes, self.type_name = _told(foreign)
        width = _width(foreign, self.takes, edge_channels)
        self.edge = nn.Linear(heads, width) if width else None
        self.norm = nn.LayerNorm(channels) if residual else None

    def forward(self, x: Tensor, graph: EdgeGraph, pair: Tensor) -> tuple[Tensor, Tensor]:
        """New node states; the pair state as it is."""
        told: dict[str, Tensor] = {}
        if self.edge is not None and self.takes is not None:
            edge = self.edge(pair.to(x.dtype)).to(x.dtype)
            if self.takes == "edge_weight":
                edge = softmax(edge[:, 0], graph.row, num_nodes=graph.num_nodes)
            told[self.takes] = edge
        if self.type_name is not None:
            told[self.type_name] = graph.edge_type
        h = x if self.norm is None else F.dropout(F.gelu(self.norm(x)), self.dropout, self.training)
        out = self.convolve(h, graph, told)
        out = (out[0] if isinstance(out, tuple) else out).flatten(1).to(x.dtype)
        if out.shape != x.shape:
            raise InputError(
                f"The convolution gives {out.shape[1]} channels, heads joined, not the {x.shape[1]} it gets."
            )
        return (x + out if self.residual else out), pair

    @abstractmethod
    def convolve(self, x: Tensor, graph: EdgeGraph, told: dict[str, Tensor]) -> Any:
        """The foreign convolution on node states (N, C) and what it is told of edges."""


class PyGConv(_Adapter):
    """Any convolution of `torch_geometric.nn` as a `stgraph.nn.layer.GraphLayer`.

    It runs on all edges, ``edge_index`` being (source, target). Distance and edge type
    reach it through the pair state, which becomes ``edge_attr`` by a learned linear map
    if the convolution takes one; or ``edge_weight``, positive and summing to one over the
    edges of a target, if it takes that; or nothing. ``edge_type`` is given if it is taken.
    The pair state is passed on as it is.

    A convolution that takes ``batch`` (`GPSConv`) attends within connected components of
    the graph, so never across slices; nodes that nobody hears from (queries) attend to one
    another only. In `GPSConv`, a node sees the whole part all the same.

    Parameters
    ----------
    conv
        The convolution, from ``channels`` to ``channels`` (with heads that are joined:
        ``out_channels * heads``).
    channels
        C.
    heads
        H, of the model.
    edge_channels
        Width of ``edge_attr``. None: what the convolution keeps as its ``edge_dim``; one
        that keeps none (`GINEConv`) has to be told of. 0: it learns nothing of edges.
    residual
        Whether it becomes a residual block, ``x + conv(dropout(gelu(norm(x))))``
        (DeeperGCN's); say False for one that is a whole block by itself, as `GPSConv`.
    dropout
        In the residual block.

    Shapes
    ------
    x : (N, C)
    pair : (E, H)
    output : (N, C) and (E, H)

    Raises
    ------
    InputError
        If the convolution does not fit: it caches a graph, sends messages from target to
        source, or does not say how wide its edge features are.

    References
    ----------
    Li et al., DeeperGCN: all you need to train deeper GCNs (2020).

    Examples
    --------
    >>> from torch_geometric.nn import GATv2Conv
    >>> from stgraph.models.se2_transformer import SE2Transformer
    >>> from stgraph.nn.conv import PyGConv
    >>> layer = PyGConv(GATv2Conv(64, 16, heads=4, edge_dim=8), channels=64)
    >>> SE2Transformer(in_channels=20, layer=layer).layer["conv"]["edge_dim"]
    8
    """

    def __init__(
        self,
        conv: nn.Module,
        channels: int,
        heads: int = 4,
        edge_channels: int | None = None,
        residual: bool = True,
        dropout: float = 0.0,
    ) -> None:
        for part in conv.modules():
            if getattr(part, "cached", False) is True:
                raise InputError(f"{type(part).__name__} caches the first graph it sees: build it with cached=False.")
            if getattr(part, "flow", "source_to_target") != "source_to_target":
                raise InputError(f"{type(part).__name__} sends messages to sources: leave out its argument 'flow'.")
        super().__init__(conv, channels, heads, edge_channels, residual, dropout)
        self.conv = conv
        self.by_component = "batch" in inspect.signature(conv.forward).parameters

    def convolve(self, x: Tensor, graph: EdgeGraph, told: dict[str, Tensor]) -> Any:
        """The convolution; with nodes sorted by component if it works on these."""
        edge_index = torch.stack([graph.col, graph.row])
        if not self.by_component:
            return self.conv(x, edge_index, **told)
        component = _components(graph)
        order = torch.argsort(component, stable=True)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device)
        batch = component[order]
        return self.conv(x[order], place[edge_index], batch=batch, **told)[place]


class DGLModule(_Adapter):
    """Any convolution of `dgl.nn` as a `stgraph.nn.layer.GraphLayer`.

    It runs on a `DGLGraph` with our nodes and edges, in our order. What it is told of edges
    is as in `PyGConv`: ``edge_weight`` or a vector of edge features, made of the pair
    state; ``etypes`` if it takes them. A node without edges gets one to itself, which many
    of DGL's convolutions ask for. If it gives edge features too, they are left. Under
    autocast it remains in float32.

    Parameters
    ----------
    module
        The convolution, from ``channels`` to ``channels``, joined over its heads. Of
        `GraphConv`, ``norm="both"`` counts the edges of neighbours: say ``"right"``.
    channels
        C.
    heads
        H, of the model.
    edge_channels
        Width of the edge features; needed if the convolution takes any, for DGL's do not
        say. 0: it learns nothing of edges.
    residual, dropout
        As in `PyGConv`.

    Shapes
    ------
    x : (N, C)
    pair : (E, H)
    output : (N, C) and (E, H)

    Raises
    ------
    InputError
        If the convolution does not say how wide its edge features are.
    """

    def __init__(
        self,
        module: nn.Module,
        channels: int,
        heads: int = 4,
        edge_channels: int | None = None,
        residual: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(module, channels, heads, edge_channels, residual, dropout)
        self.module = module

    def convolve(self, x: Tensor, graph: EdgeGraph, told: dict[str, Tensor]) -> Any:
        """The convolution, on the graph as DGL has it."""
        import dgl  # noqa: PLC0415 - an optional extra, that whoever built the module has

        # Many of DGL's refuse nodes without edges: these get one to themselves, as all cells have.
        alone = (graph.ptr.diff() == 0).nonzero()[:, 0]
        ends = torch.cat([graph.col, alone]), torch.cat([graph.row, alone])
        fill = {"edge_weight": 1, "etypes": _ITSELF}
        for name, value in told.items():
            told[name] = torch.cat([value, value.new_full((len(alone), *value.shape[1:]), fill.get(name, 0))])
        with torch.autocast(x.device.type, enabled=False):  # whose mixture of types they refuse as well
            return self.module(dgl.graph(ends, num_nodes=graph.num_nodes), x, **told)


def _told(foreign: nn.Module) -> tuple[str | None, str | None]:
    """By what names a convolution takes features or a weight of edges, and their types; None if it does not."""
    names = inspect.signature(foreign.forward).parameters
    inner = getattr(foreign, "conv", None)
    if isinstance(inner, nn.Module) and any(p.kind is inspect.Parameter.VAR_KEYWORD for p in names.values()):
        return _told(inner)  # GPSConv hands on what it does not know
    takes = next((name for name in (*_FEATURES, "edge_weight") if name in names), None)
    return takes, next((name for name in _TYPES if name in names), None)


def _width(foreign: nn.Module, takes: str | None, edge_channels: int | None) -> int:
    """How wide the edge features of a convolution are."""
    name = type(foreign).__name__
    if takes is None:
        if edge_channels:
            raise InputError(f"{name} takes nothing of edges: leave out edge_channels.")
        return 0
    if takes == "edge_weight":
        if edge_channels not in (None, 0, 1):
            raise InputError(f"{name} takes one weight of an edge: leave out edge_channels, or set it to 0 for none.")
        return 1 if edge_channels is None else edge_channels
    if edge_channels is not None:
        return edge_channels
    known: list[Any] = [part.edge_dim for part in foreign.modules() if hasattr(part, "edge_dim")]
    if not known:
        raise InputError(f"{name} does not say how wide its edge features are: pass edge_channels (0 for none).")
    return known[0] or 0


def _components(graph: EdgeGraph) -> Tensor:
    """(N,) number of the group of each node: its component, of those that are heard or of those that are not."""
    n, col = graph.num_nodes, graph.col.cpu().numpy()
    links = csr_matrix((torch.ones(len(col)).numpy(), col, graph.ptr.cpu().numpy()), shape=(n, n))
    _, component = connected_components(links, directed=False)
    heard = torch.zeros(n, dtype=torch.long, device=graph.col.device).index_fill_(0, graph.col, 1)
    group = 2 * torch.from_numpy(component).to(graph.col.device, torch.long) + 1 - heard
    number: Tensor = torch.unique(group, return_inverse=True)[1]
    return number
