"""The SE(2) graph transformer: attention biased by distances, blind to position."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from stgraph.data.edge_types import TO_CELL
from stgraph.models.base import CellGraphModel, ModelOutput
from stgraph.models.cell_graph import EDGE_TYPES, cell_graph
from stgraph.nn.distance_bias import GaussianBias
from stgraph.nn.distance_bias.choice import make_bias
from stgraph.nn.layer import make_layers
from stgraph.nn.module_config import module_config
from stgraph.nn.se2_block import SE2Block

_HIDDEN = -30.0
"""Pair state of a hidden edge: a weight of e to this power is none."""


class SE2Transformer(CellGraphModel):
    """SToFM's SE(2) transformer on the edges of a slice graph.

    It sees distances only, so that moving, turning or mirroring a slice changes
    nothing. Cells attend to their neighbours and to the virtual cells of the slice.

    The embedding of a cell is the state of its *query*: a node at the place of the cell
    that holds the mask vector and sees all the cell sees, but not the cell. So it says
    what the surroundings say about the cell, as in training, and one pass serves all
    cells at once. (The state of the cell itself mostly repeats its own, noisy counts.)

    Parameters
    ----------
    in_channels
        Width of the cell features.
    hidden_channels
        C, width of the states and of the embedding.
    num_layers
        Blocks.
    heads
        H, attention heads.
    ffn_channels
        Width of the feed-forward networks of `SE2Block`.
    num_kernels
        Gaussians of the distance bias.
    dropout
        In each `SE2Block`.
    layer
        What takes the place of `SE2Block`: a `stgraph.nn.layer.GraphLayer`, or its config.
        An object is a pattern: each of the ``num_layers`` is built anew, with weights of
        its own. ``ffn_channels`` and ``dropout`` say nothing about it; it has arguments of
        its own. The attribute is the config.
    distance_bias
        What takes the place of `stgraph.nn.distance_bias.GaussianBias`: another of those, or one of your own, or its
        config. Again an object is a pattern, and the attribute is the config; ``num_kernels`` says nothing about it.

    Shapes
    ------
    Input: a batch from `stgraph.data` with ``cell.x`` (N, in_channels). Output:
    `ModelOutput` with ``cell`` (N, C).

    References
    ----------
    SToFM: a multi-scale foundation model for spatial transcriptomics (2025).

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.data.convert import to_hetero_data
    >>> from stgraph.models.se2_transformer import SE2Transformer
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0])
    >>> model = SE2Transformer(in_channels=graph.x.shape[1])
    >>> model.embed(to_hetero_data(graph)).shape
    torch.Size([200, 64])
    """

    # These come as configs where they are in one: an object may not tell all of what it was built with.
    _as_configs_: ClassVar = ("layer", "distance_bias")

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int = 64,
        num_layers: int = 1,
        heads: int = 4,
        ffn_channels: int = 128,
        num_kernels: int = 16,
        dropout: float = 0.0,
        layer: nn.Module | Mapping[str, Any] | None = None,
        distance_bias: nn.Module | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        widths = (in_channels, hidden_channels, num_layers, heads, ffn_channels, num_kernels)
        if min(widths) < 1 or not 0 <= dropout < 1:
            raise ValueError("SE2Transformer needs positive widths and numbers, and dropout from 0 to below 1.")
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.heads = heads
        self.ffn_channels = ffn_channels
        self.num_kernels = num_kernels
        self.dropout = dropout
        self.layer: dict[str, Any] | None = None
        self.distance_bias: dict[str, Any] | None = None

        self.encode = nn.Linear(in_channels, hidden_channels)
        self.mask = nn.Parameter(torch.zeros(hidden_channels))
        self.node_type = nn.Embedding(2, hidden_channels)
        if distance_bias is None:
            self.bias: nn.Module = GaussianBias(heads, num_kernels, num_edge_types=len(EDGE_TYPES))
        else:
            self.bias = make_bias(distance_bias, heads, len(EDGE_TYPES))
            self.distance_bias = module_config(distance_bias)
        if layer is None:
            blocks = [SE2Block(hidden_channels, heads, ffn_channels, dropout) for _ in range(num_layers)]
            self.blocks = nn.ModuleList(blocks)
        else:
            self.blocks = nn.ModuleList(make_layers(layer, num_layers, hidden_channels, heads))
            self.layer = module_config(layer)
        self.norm = nn.LayerNorm(hidden_channels)
        self.cell_head = nn.Sequential(
            nn.Linear(hidden_channels, hidden_channels), nn.GELU(), nn.Linear(hidden_channels, in_channels)
        )
        self.distance_head = nn.Sequential(nn.Linear(heads, 4 * heads), nn.GELU(), nn.Linear(4 * heads, 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the mask vector and the node types; the layers draw their own weights."""
        nn.init.normal_(self.mask, std=0.02)
        nn.init.normal_(self.node_type.weight, std=0.02)

    def forward(self, data: HeteroData) -> ModelOutput:
        """States of a batch; cells where ``cell.masked`` is true show the mask vector."""
        graph = cell_graph(data)
        n, v = graph.num_cells, graph.num_virtual
        cell = self.encode(data["cell"].x)
        masked = data["cell"].get("masked")
        if masked is not None:
            cell = torch.where(masked[:, None], self.mask.to(cell.dtype), cell)
        cell_type, virtual_type = self.node_type.weight
        virtual = self.encode(data["virtual"].x) + virtual_type
        x = torch.cat([cell + cell_type, virtual, (self.mask + cell_type).to(cell.dtype).expand(n, -1)])
        pair = self.bias(graph.distance, graph.edge_type).index_select(0, graph.same_as)
        for block in self.blocks:
            x, pair = block(x, graph.edges, pair)
        x = self.norm(x)
        return ModelOutput(
            cell=x[:n],
            virtual=x[n : n + v],
            query=x[n + v :],
            near_pair=_shown(pair.index_select(0, graph.near)),
            virtual_pair=_shown(pair.index_select(0, graph.informs)) if "true_length" in data[TO_CELL] else None,
        )

    @torch.no_grad()
    def embed(self, data: HeteroData) -> Tensor:
        """(N, C) states of the queries of all cells."""
        return self(data).query  # type: ignore[no-any-return]

    def predict_cells(self, states: Tensor) -> Tensor:
        """(n, in_channels) features of cells from their states (n, C)."""
        out: Tensor = self.cell_head(states)
        return out

    def predict_distances(self, pair: Tensor) -> Tensor:
        """(e,) log1p of distances in spacings, from pair states (e, H)."""
        out: Tensor = self.distance_head(pair)[:, 0]
        return out


def _shown(pair: Tensor) -> Tensor:
    # A cut-off hides edges by minus infinity, of which no distance could be told.
    return pair.masked_fill(pair == -torch.inf, _HIDDEN)
