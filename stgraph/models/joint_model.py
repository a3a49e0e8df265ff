"""A network of cells and a network of slice graphs as one, trained together from tokens."""

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from torch_geometric.data import HeteroData

from stgraph.data.cell_batch import CellBatch
from stgraph.errors import InputError
from stgraph.graph.arguments import check_whole
from stgraph.models.base import CellGraphModel, ModelOutput
from stgraph.models.cell_network import CellNetwork

Target = Literal["current", "cached"]
"""What a masked cell is compared with: what the network of cells says of it now, or what the part came with."""


class JointModel(CellGraphModel):
    """A `CellGraphModel` whose features of cells are what a network of cells makes of their tokens: SToFM's stage 3.

    What the graph model sees of a cell is computed from ``cell.tokens`` within ``forward``, so that the losses train
    both networks. What it sees of a virtual cell stays as it came, cached: a mean over the whole slice, of which a
    batch has a part only.

    A masked cell shows its mask to the graph model and nothing else, so its own tokens reach no output. What it is
    compared with is ``cell.x`` of the batch, as in every objective on features, and carries no gradient: a network that
    could move its own target would make all cells alike.

    Parameters
    ----------
    cell_network
        Tokens to features, a `stgraph.models.cell_network.CellNetwork`; trained, not copied.
    graph_model
        Features to states; trained, not copied.
    target
        What ``cell.x`` is after ``forward``: with ``"current"``, what the network of cells says of the cells now,
        without gradient (it replaces ``cell.x`` of the batch it was given); with ``"cached"``, what the part came
        with, which cannot drift.
    tokens_at_once
        Cells are embedded in runs of at most so many tokens (one cell at least), of which only the result is kept; what
        the gradient needs is computed again, so that memory is that of a run. None for all at once.

    Shapes
    ------
    Input: a batch from `stgraph.data` with ``cell.tokens`` (T,), ``cell.num_tokens`` (N,), for networks that read
    values ``cell.token_values`` (T,), and ``virtual.x`` (V, in_channels). Output: `ModelOutput` with ``cell`` (N, C).

    References
    ----------
    SToFM: a multi-scale foundation model for spatial transcriptomics (2025), its third epoch.

    Raises
    ------
    InputError
        If the two do not fit together, or a batch has no tokens.

    Examples
    --------
    >>> import torch, stgraph
    >>> from stgraph.data.convert import to_hetero_data
    >>> from stgraph.models.joint_model import JointModel
    >>> from stgraph.models.rank_encoder import RankEncoder
    >>> from stgraph.models.se2_transformer import SE2Transformer
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=100, n_genes=60)[0])
    >>> data = to_hetero_data(graph)
    >>> data["cell"].num_tokens = torch.full((100,), 2)
    >>> data["cell"].tokens = torch.randint(2, 30, (200,))
    >>> cells = RankEncoder(32, out_channels=20, hidden_channels=16, num_layers=1, heads=2)
    >>> JointModel(cells, SE2Transformer(20, hidden_channels=32)).embed(data).shape
    torch.Size([100, 32])
    """

    def __init__(
        self,
        cell_network: CellNetwork,
        graph_model: CellGraphModel,
        target: Target = "current",
        tokens_at_once: int | None = None,
    ) -> None:
        super().__init__()
        wanted = getattr(graph_model, "in_channels", cell_network.out_channels)
        if wanted != cell_network.out_channels:
            raise InputError(
                f"The network of cells gives {cell_network.out_channels} features and the graph model reads {wanted}: "
                "make the two widths equal."
            )
        if target not in get_args(Target):
            raise InputError(f"JointModel's target must be one of {', '.join(get_args(Target))}, not {target!r}.")
        self.target = target
        self.tokens_at_once = tokens_at_once
        if tokens_at_once is not None:
            check_whole(self, "tokens_at_once")
        self.cell_network = cell_network
        self.graph_model = graph_model
        self.in_channels = cell_network.out_channels
        self.num_layers = graph_model.num_layers
        self.part_size = graph_model.part_size

    def forward(self, data: HeteroData) -> ModelOutput:
        """States of a batch; the tokens of cells where ``cell.masked`` is true reach no state."""
        came_with = data["cell"].x
        fresh = self.features(data)
        data["cell"].x = fresh
        try:
            output: ModelOutput = self.graph_model(data)
        finally:
            # The objectives read their targets here: never with a gradient to the network of cells.
            data["cell"].x = fresh.detach() if self.target == "current" else came_with
        return output

    def features(self, data: HeteroData) -> Tensor:
        """(N, in_channels) features of the cells of a batch, from their tokens, with gradient."""
        cells = cells_of(data)
        if self.tokens_at_once is None:
            return self.cell_network.embed(cells)
        return torch.cat([self._run(run) for run in _runs(cells, self.tokens_at_once)])

    @torch.no_grad()
    def embed(self, data: HeteroData) -> Tensor:
        """(N, C) embeddings of the cells of a batch, none masked, from their tokens."""
        came_with = data["cell"].x
        data["cell"].x = self.features(data)
        try:
            return self.graph_model.embed(data)
        finally:
            data["cell"].x = came_with

    def predict_cells(self, states: Tensor) -> Tensor:
        """As the graph model does."""
        return self.graph_model.predict_cells(states)

    def predict_distances(self, pair: Tensor) -> Tensor:
        """As the graph model does."""
        return self.graph_model.predict_distances(pair)

    def _run(self, cells: CellBatch) -> Tensor:
        if not torch.is_grad_enabled():
            return self.cell_network.embed(cells)
        out: Tensor = checkpoint(self.cell_network.embed, cells, use_reentrant=False)
        return out


def cells_of(data: HeteroData) -> CellBatch:
    """The cells of a part or a batch of parts, as a network of cells reads them.

    Parameters
    ----------
    data
        With ``cell.tokens`` and ``cell.num_tokens``, as `stgraph.data.cell_tokens.CellTokens` adds them.

    Returns
    -------
    CellBatch
        Row s is cell s of the batch.

    Raises
    ------
    InputError
        If there are no tokens, or not as many as ``num_tokens`` says.
    """
    cell = data["cell"]
    if "tokens" not in cell or "num_tokens" not in cell:
        raise InputError("The cells of this batch have no tokens: give CellTokens as transform of the PartDataset.")
    tokens, lengths = cell.tokens.long(), cell.num_tokens.long()
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    if len(lengths) != cell.num_nodes or int(offsets[-1]) != len(tokens):
        raise InputError(
            f"A batch of {cell.num_nodes} cells has num_tokens of {len(lengths)} cells, {int(offsets[-1])} in all, and "
            f"{len(tokens)} tokens: they do not belong together."
        )
    return CellBatch(
        tokens=tokens,
        offsets=offsets,
        cell=torch.arange(len(lengths), device=tokens.device),
        values=cell.get("token_values"),
    )


def _runs(cells: CellBatch, most: int) -> list[CellBatch]:
    """Consecutive cells of at most so many tokens, or one that alone has more."""
    ends = cells.offsets.tolist()
    bounds = [0]
    for row in range(1, len(ends)):
        if ends[row] - ends[bounds[-1]] > most and row - 1 > bounds[-1]:
            bounds.append(row - 1)
    bounds.append(len(ends) - 1)
    return [_rows(cells, bounds[i], bounds[i + 1], ends) for i in range(len(bounds) - 1)]


def _rows(cells: CellBatch, begin: int, end: int, ends: list[int]) -> CellBatch:
    tokens = slice(ends[begin], ends[end])
    return CellBatch(
        tokens=cells.tokens[tokens],
        offsets=cells.offsets[begin : end + 1] - ends[begin],
        cell=cells.cell[begin:end],
        values=None if cells.values is None else cells.values[tokens],
    )
