"""A model of slice graphs with a head that says what the cells are."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from stgraph.models.base import CellGraphModel, ModelOutput


def read_cells(output: ModelOutput, data: HeteroData) -> Tensor:
    """What a head is given of each cell: its features, the state of its query, its own state.

    The type of a cell is a matter of its own counts and its region one of its
    surroundings; what the truth is made of is for the head to find out. A network without
    queries has one state for both, which is read once.

    Parameters
    ----------
    output
        Of a network.
    data
        The batch it is of.

    Returns
    -------
    Tensor
        (N, C).

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.data.convert import to_hetero_data
    >>> from stgraph.models.cell_predictor import read_cells
    >>> from stgraph.models.se2_transformer import SE2Transformer
    >>> data = to_hetero_data(stgraph.build_graph(stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]))
    >>> read_cells(SE2Transformer(20, hidden_channels=32)(data), data).shape
    torch.Size([200, 84])
    """
    states = [output.query] if output.query is output.cell else [output.query, output.cell]
    return torch.cat([data["cell"].x, *states], dim=1)


class CellReader(CellGraphModel):
    """A network whose embedding is all that a head would be given of a cell.

    Parameters
    ----------
    network
        The network; not copied.

    Shapes
    ------
    Input: a batch from `stgraph.data`. ``embed`` gives (N, C), as `read_cells`.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.data.convert import to_hetero_data
    >>> from stgraph.models.cell_predictor import CellReader
    >>> from stgraph.models.se2_transformer import SE2Transformer
    >>> data = to_hetero_data(stgraph.build_graph(stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]))
    >>> CellReader(SE2Transformer(20, hidden_channels=32)).embed(data).shape
    torch.Size([200, 84])
    """

    def __init__(self, network: CellGraphModel) -> None:
        super().__init__()
        self.network = network
        self.num_layers = network.num_layers
        self.part_size = network.part_size

    def forward(self, data: HeteroData) -> ModelOutput:
        """States of a batch, as the network gives them."""
        out: ModelOutput = self.network(data)
        return out

    @torch.no_grad()
    def embed(self, data: HeteroData) -> Tensor:
        """(N, C) what `read_cells` gives."""
        return read_cells(self(data), data)

    def predict_cells(self, states: Tensor) -> Tensor:
        """As the network does."""
        return self.network.predict_cells(states)

    def predict_distances(self, pair: Tensor) -> Tensor:
        """As the network does."""
        return self.network.predict_distances(pair)


class CellPredictor(CellReader):
    """A network and a head on what it says of each cell, trained together.

    Parameters
    ----------
    in_channels
        Width of what `read_cells` gives.
    out_channels
        K, classes or values.
    network
        The network; it is trained, not copied.
    head_channels
        Widths of hidden layers that the head has beside its linear one, whose sum it is;
        they say nothing at the start. None for a linear head.
    dropout
        Of what the head reads, and of its hidden layers.

    Shapes
    ------
    Input: a batch from `stgraph.data`. ``embed`` gives (N, K): logits of classes, or values.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.data.convert import to_hetero_data
    >>> from stgraph.models.cell_predictor import CellPredictor
    >>> from stgraph.models.se2_transformer import SE2Transformer
    >>> data = to_hetero_data(stgraph.build_graph(stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]))
    >>> CellPredictor(84, 7, SE2Transformer(20, hidden_channels=32)).embed(data).shape
    torch.Size([200, 7])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        network: CellGraphModel,
        head_channels: Sequence[int] = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__(network)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.head_channels = tuple(head_channels)
        self.dropout = dropout
        self.drop = nn.Dropout(dropout)
        self.linear, self.hidden = head_layers(in_channels, out_channels, head_channels, dropout)

    def predict_truth(self, output: ModelOutput, data: HeteroData) -> Tensor:
        """(N, K) logits of classes, or values, of the cells of a batch."""
        read = self.drop(read_cells(output, data))
        out: Tensor = self.linear(read)
        return out if self.hidden is None else out + self.hidden(read)

    @torch.no_grad()
    def start_from(self, weight: Tensor, bias: Tensor) -> None:
        """Let the head begin as a linear one that was found otherwise, (K, in_channels) and (K,)."""
        self.linear.weight.copy_(weight)
        self.linear.bias.copy_(bias)

    @torch.no_grad()
    def embed(self, data: HeteroData) -> Tensor:
        """(N, K) predictions, so that whatever embeds slices part by part also predicts."""
        return self.predict_truth(self(data), data)


def head_layers(
    in_channels: int, out_channels: int, head_channels: Sequence[int], dropout: float
) -> tuple[nn.Linear, nn.Sequential | None]:
    """A linear head, and layers to be added to it that say nothing at the start; None without ``head_channels``.

    Examples
    --------
    >>> from stgraph.models.cell_predictor import head_layers
    >>> head_layers(8, 3, (), 0.0)
    (Linear(in_features=8, out_features=3, bias=True), None)
    """
    if min((in_channels, out_channels, *head_channels)) < 1 or not 0 <= dropout < 1:
        raise ValueError("A head needs positive widths, and dropout from 0 to below 1.")
    linear = nn.Linear(in_channels, out_channels)
    if not head_channels:
        return linear, None
    layers: list[nn.Module] = []
    for wide, narrow in pairwise([in_channels, *head_channels]):
        layers += [nn.Linear(wide, narrow), nn.GELU(), nn.Dropout(dropout)]
    last = nn.Linear(head_channels[-1], out_channels)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return linear, nn.Sequential(*layers, last)
