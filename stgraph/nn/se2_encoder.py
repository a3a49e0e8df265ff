"""The SE(2) graph transformer of SToFM, weight for weight, on any graph."""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stgraph.nn.distance_bias import SToFMGaussianBias, TabulatedBias
from stgraph.nn.edge_attention import EdgeGraph
from stgraph.nn.edge_attention.backends import Backend
from stgraph.nn.se2_block import NormPlace
from stgraph.nn.stofm_block import SToFMBlock

CELL, CLASS_TOKEN, VIRTUAL, PADDING = range(4)
"""Node types, as the published model numbers them. Graphs here have no padding: its number is kept for the weights."""

_EDGES_AT_ONCE = 1 << 18
"""Edges whose exact bias is found at once where no gradient is wanted: K numbers for each are enough to fill memory."""


class EncoderOutput(NamedTuple):
    """States after the last layer.

    Attributes
    ----------
    last
        (N, C) states of the nodes.
    pair
        (E, H) pair state: the logits of the last layer.
    hidden
        The states before the first layer and after each, if they were asked for.
    """

    last: Tensor
    pair: Tensor
    hidden: tuple[Tensor, ...] | None


class SE2Encoder(nn.Module):
    """SToFM's SE(2) transformer: features, node types and distances to states.

    Distances enter as the bias of the first layer, zero where the distance is zero; the logits of a layer are the
    bias of the next one. Which nodes attend to which, all pairs or some, is the graph's affair: the weights are the
    same. The names in the state dict are those of the published weights.

    Parameters
    ----------
    in_channels
        Width of the features.
    hidden_channels
        C, width of the states.
    num_layers
        Blocks.
    heads
        H, attention heads.
    ffn_channels
        Width of the feed-forward networks.
    num_kernels
        K, Gaussians of the distance bias.
    dropout
        Of the embedded nodes and of the branches.
    attention_dropout
        Of the attention weights.
    activation_dropout
        Inside the feed-forward networks.
    norm
        As for `stgraph.nn.se2_block.ResidualBlock`. The published model is ``"post"``, without a norm at the end;
        with ``"pre"`` there is one.
    tabulate
        Tolerance of the table that the distance bias is read from, as in `stgraph.nn.distance_bias.TabulatedBias`.
        None evaluates it for every edge, exactly, which takes K numbers and most of the time. The weights are the
        same.
    backend
        Of `stgraph.nn.edge_attention.edge_attention`.

    Shapes
    ------
    features : (N, in_channels)
    node_type : (N,) int64, 0 for a cell, 1 for a class token, 2 for a virtual cell
    output : (N, C) and (E, H)

    References
    ----------
    SToFM: a multi-scale foundation model for spatial transcriptomics (2025).

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.edge_attention import EdgeGraph
    >>> from stgraph.nn.se2_encoder import SE2Encoder
    >>> graph = EdgeGraph.complete([2], torch.tensor([0.0, 3.0, 3.0, 0.0]), torch.zeros(4, dtype=torch.long))
    >>> encoder = SE2Encoder(5, hidden_channels=16, num_layers=2, heads=4, ffn_channels=16, backend="reference")
    >>> last, pair, _ = encoder(torch.ones(2, 5), torch.zeros(2, dtype=torch.long), graph)
    >>> last.shape, pair.shape
    (torch.Size([2, 16]), torch.Size([4, 4]))
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int = 256,
        num_layers: int = 4,
        heads: int = 8,
        ffn_channels: int = 256,
        num_kernels: int = 128,
        *,
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        activation_dropout: float = 0.1,
        norm: NormPlace = "post",
        tabulate: float | None = None,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        if min(in_channels, hidden_channels, num_layers, heads, ffn_channels, num_kernels) < 1:
            raise ValueError("SE2Encoder needs widths and numbers of at least 1.")
        if not all(0 <= rate < 1 for rate in (dropout, attention_dropout, activation_dropout)):
            raise ValueError("SE2Encoder needs every dropout from 0 to below 1.")
        if tabulate is not None and not tabulate > 0:
            raise ValueError(f"SE2Encoder needs a tolerance above 0 to tabulate with, or None, not {tabulate}.")
        self.dropout = dropout
        self.tabulate = tabulate
        self.embedding_layer = nn.Linear(in_channels, hidden_channels)
        self.token_type_embeddings = nn.Embedding(4, hidden_channels)
        self.gaussian = SToFMGaussianBias(heads, num_kernels)
        layers: list[nn.Module] = [
            SToFMBlock(
                hidden_channels, heads, ffn_channels, dropout, attention_dropout, activation_dropout, norm, backend
            )
            for _ in range(num_layers)
        ]
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(layers)})
        if norm == "pre":
            self.encoder["final_layer_norm"] = nn.LayerNorm(hidden_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the embeddings as they were drawn for the published model; blocks and bias draw their own weights."""
        nn.init.normal_(self.embedding_layer.weight, std=0.02)
        nn.init.zeros_(self.embedding_layer.bias)
        nn.init.normal_(self.token_type_embeddings.weight, std=0.02)

    def forward(
        self, features: Tensor, node_type: Tensor, graph: EdgeGraph, *, return_hidden: bool = False
    ) -> EncoderOutput:
        """States of all nodes and edges."""
        if not return_hidden:
            last, pair = deque(self.layer_by_layer(self.embed(features, node_type), graph), maxlen=1).pop()
            return EncoderOutput(last, pair, None)
        hidden = [self.embed(features, node_type)]
        for state, pair in self.layer_by_layer(hidden[0], graph):  # noqa: B007
            hidden.append(state)
        return EncoderOutput(hidden[-1], pair, tuple(hidden))

    def embed(self, features: Tensor, node_type: Tensor) -> Tensor:
        """States (N, C) before the first layer, from features (N, in_channels) and node types (N,)."""
        x = self.embedding_layer(features) + self.token_type_embeddings(node_type)
        return F.dropout(x, self.dropout, self.training)

    def layer_by_layer(self, x: Tensor, graph: EdgeGraph) -> Iterator[tuple[Tensor, Tensor]]:
        """States of nodes (N, C) and pairs (E, H) after each layer, from those of `embed`.

        Nothing of earlier layers is kept, so that a caller who keeps nothing either needs the memory of one.
        """
        pair = self.distance_bias(graph)
        layers: nn.ModuleList = self.encoder["layers"]  # type: ignore[assignment]
        for number, layer in enumerate(layers, start=1):
            x, pair = layer(x, graph, pair)
            if number == len(layers) and "final_layer_norm" in self.encoder:
                x = self.encoder["final_layer_norm"](x)
            yield x, pair

    def distance_bias(self, graph: EdgeGraph) -> Tensor:
        """(E, H) what the distances add to the logits of the first layer."""
        distance, edge_type = graph.distance, graph.edge_type
        if self.tabulate is not None:
            # Made here, for as a part of this module it would give the weights a second name.
            out: Tensor = TabulatedBias(self.gaussian, tolerance=self.tabulate)(distance, edge_type)
            return out
        if torch.is_grad_enabled():
            exact: Tensor = self.gaussian(distance, edge_type)
            return exact
        count = -(-len(distance) // _EDGES_AT_ONCE) or 1
        pieces = zip(distance.chunk(count), edge_type.chunk(count), strict=True)
        return torch.cat([self.gaussian(*piece) for piece in pieces])
