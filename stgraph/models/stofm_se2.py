"""SToFM's SE(2) transformer as a model of slice graphs."""

from collections import deque

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from stgraph.errors import InputError
from stgraph.models.base import CellGraphModel, ModelOutput
from stgraph.models.pair_scope import EdgePairs, PairGraph, PairScope
from stgraph.nn.edge_attention.backends import Backend
from stgraph.nn.se2_block import NormPlace
from stgraph.nn.se2_encoder import SE2Encoder

_EDGES = EdgePairs()


class SToFMSE2(CellGraphModel):
    """SToFM's SE(2) transformer with its heads, on the pairs that a scope chooses.

    The embedding of a cell is its own state, and a masked cell is told from its own state, which started from a mask
    vector: as in SToFM, and unlike `stgraph.models.se2_transformer.SE2Transformer` there are no queries. Weights
    have the names of SToFM's training class; `stgraph.models.stofm_checkpoint` reads and writes the published layout.

    Parameters
    ----------
    in_channels
        Width of the cell features.
    hidden_channels, num_layers, heads, ffn_channels, num_kernels
        As for `stgraph.nn.se2_encoder.SE2Encoder`; the defaults are the size of the released model.
    dropout, attention_dropout, activation_dropout, norm, tabulate, backend
        Likewise.
    scope
        Which nodes attend to which: `stgraph.models.pair_scope.EdgePairs`, or ``CompletePairs``, SToFM's setting. The
        weights are the same.
    mask_value
        What the features of masked cells are set to; SToFM takes -100. None learns a vector instead.

    Shapes
    ------
    Input: a batch from `stgraph.data` with ``cell.x`` (N, in_channels). Output: `ModelOutput` with ``cell`` (N, C),
    which is ``query`` as well.

    References
    ----------
    SToFM: a multi-scale foundation model for spatial transcriptomics (2025).

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.data.convert import to_hetero_data
    >>> from stgraph.models.stofm_se2 import SToFMSE2
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0])
    >>> model = SToFMSE2(in_channels=graph.x.shape[1], hidden_channels=32, num_layers=2, heads=4).eval()
    >>> model.embed(to_hetero_data(graph, informs=False)).shape
    torch.Size([200, 32])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int = 256,
        num_layers: int = 4,
        heads: int = 8,
        ffn_channels: int = 256,
        num_kernels: int = 128,
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        activation_dropout: float = 0.1,
        norm: NormPlace = "post",
        scope: PairScope = _EDGES,
        mask_value: float | None = None,
        tabulate: float | None = 1e-3,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        if isinstance(scope, type) or not callable(scope) or not hasattr(scope, "part_size"):
            raise InputError(f"The scope must be an object such as EdgePairs() or CompletePairs(), not {scope!r}.")
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.heads = heads
        self.ffn_channels = ffn_channels
        self.num_kernels = num_kernels
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.activation_dropout = activation_dropout
        self.norm = norm
        self.scope = scope
        self.part_size = scope.part_size
        self.mask_value = mask_value
        self.tabulate = tabulate
        self.backend: Backend = backend

        self.model = SE2Encoder(
            in_channels,
            hidden_channels,
            num_layers,
            heads,
            ffn_channels,
            num_kernels,
            dropout=dropout,
            attention_dropout=attention_dropout,
            activation_dropout=activation_dropout,
            norm=norm,
            tabulate=tabulate,
            backend=backend,
        )
        self.mask = nn.Parameter(torch.zeros(in_channels)) if mask_value is None else None
        self.lm_head = nn.Sequential(
            nn.Linear(hidden_channels, hidden_channels), nn.ReLU(), nn.Linear(hidden_channels, in_channels)
        )
        self.pair_head = nn.Sequential(nn.Linear(heads, heads), nn.ReLU(), nn.Linear(heads, 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the heads and the mask; the encoder draws its own weights."""
        for linear in (*self.lm_head, *self.pair_head):
            if isinstance(linear, nn.Linear):
                nn.init.normal_(linear.weight, std=0.02)
                nn.init.zeros_(linear.bias)
        if self.mask is not None:
            nn.init.normal_(self.mask, std=0.02)

    def forward(self, data: HeteroData) -> ModelOutput:
        """States of a batch; the features of cells where ``cell.masked`` is true are not looked at."""
        pairs = self.scope(data)
        last, pair, _ = self.model(self._features(data, pairs), pairs.node_type, pairs.edges)
        cell = last.index_select(0, pairs.cell)
        return ModelOutput(
            cell=cell,
            query=cell,
            virtual=last.index_select(0, pairs.virtual),
            near_pair=pair.index_select(0, pairs.near),
            virtual_pair=None if pairs.informs is None else pair.index_select(0, pairs.informs),
        )

    @torch.no_grad()
    def embed(self, data: HeteroData) -> Tensor:
        """(N, C) states of the cells.

        With `EdgePairs` a whole slice goes in at once, in memory that grows with its edges and cells.
        """
        pairs = self.scope(data)
        # Nothing is held on to but the last layer: at a million cells the features alone are a gigabyte.
        start = self.model.embed(self._features(data, pairs), pairs.node_type)
        layers = self.model.layer_by_layer(start, pairs.edges)
        del start
        last, _ = deque(layers, maxlen=1).pop()
        return last.index_select(0, pairs.cell)

    def predict_cells(self, states: Tensor) -> Tensor:
        """(n, in_channels) features of cells from their states (n, C)."""
        out: Tensor = self.lm_head(states)
        return out

    def predict_distances(self, pair: Tensor) -> Tensor:
        """(e,) log1p of distances in spacings, from pair states (e, H)."""
        out: Tensor = self.pair_head(pair)[:, 0]
        return out

    def _features(self, data: HeteroData, pairs: PairGraph) -> Tensor:
        """(M, in_channels) of all nodes; class tokens have none."""
        cell, masked = data["cell"].x, data["cell"].get("masked")
        if masked is not None:
            hidden = cell.new_tensor(self.mask_value) if self.mask is None else self.mask.to(cell.dtype)
            cell = torch.where(masked[:, None], hidden, cell)
        features: Tensor = cell.new_zeros(len(pairs.node_type), cell.shape[1])
        return features.index_copy_(0, pairs.cell, cell).index_copy_(0, pairs.virtual, data["virtual"].x)
