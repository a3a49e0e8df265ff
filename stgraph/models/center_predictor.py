"""A network of neighbourhoods with a head that says what the centres are."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stgraph.data.neighborhood_batch import NeighborhoodBatch
from stgraph.models.cell_predictor import head_layers
from stgraph.models.neighborhood_network import NeighborhoodNetwork, NeighborhoodStates


class CenterPredictor(NeighborhoodNetwork):
    """A network and a head on its embedding of the centre, trained together: AIDO.Tissue's way to fine-tune.

    Parameters
    ----------
    out_channels
        K, classes or values.
    network
        The network; it is trained, not copied.
    head_channels
        Widths of hidden layers that the head has beside its linear one, whose sum it is; they say nothing at the
        start. None for a linear head, as published.
    dropout
        Of what the head reads, and of its hidden layers.

    Shapes
    ------
    Input: a `stgraph.data.neighborhood_batch.NeighborhoodBatch` of S centres. ``embed`` gives (S, K): logits of
    classes, or values.

    Examples
    --------
    >>> import torch
    >>> from stgraph.data.cell_batch import CellBatch
    >>> from stgraph.data.neighborhood_batch import NeighborhoodBatch
    >>> from stgraph.models.aido_tissue import AIDOTissue
    >>> from stgraph.models.center_predictor import CenterPredictor
    >>> cells = CellBatch(torch.tensor([2, 3, 3]), torch.tensor([0, 2, 3]), torch.tensor([0, 1]), torch.rand(3))
    >>> near, far = torch.tensor([[0, 1], [1, 0]]), torch.tensor([[0.0, 9.0], [0.0, 9.0]])
    >>> batch = NeighborhoodBatch(cells, near, far, torch.tensor([0, 0]), (torch.arange(5),))
    >>> CenterPredictor(7, AIDOTissue(num_genes=5, hidden_channels=16, num_layers=2)).embed(batch).shape
    torch.Size([2, 7])
    """

    def __init__(
        self,
        out_channels: int,
        network: NeighborhoodNetwork,
        head_channels: Sequence[int] = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_genes = network.num_genes
        self.out_channels = out_channels
        self.network = network
        self.head_channels = tuple(head_channels)
        self.dropout = dropout
        self.drop = nn.Dropout(dropout)
        self.linear, self.hidden = head_layers(network.out_channels, out_channels, head_channels, dropout)

    def forward(self, batch: NeighborhoodBatch) -> NeighborhoodStates:
        """States of a batch, as the network gives them."""
        states: NeighborhoodStates = self.network(batch)
        return states

    def predict_hidden(self, states: NeighborhoodStates, batch: NeighborhoodBatch) -> Tensor:
        """As the network does."""
        return self.network.predict_hidden(states, batch)

    def predict_truth(self, output: NeighborhoodStates, batch: NeighborhoodBatch) -> Tensor:
        """(S, K) logits of classes, or values, of the centres of a batch."""
        read = self.drop(output.center)
        out: Tensor = self.linear(read)
        return out if self.hidden is None else out + self.hidden(read)

    @torch.no_grad()
    def start_from(self, weight: Tensor, bias: Tensor) -> None:
        """Let the head begin as a linear one that was found otherwise, (K, C) and (K,)."""
        self.linear.weight.copy_(weight)
        self.linear.bias.copy_(bias)

    def embed(self, batch: NeighborhoodBatch) -> Tensor:
        """(S, K) predictions, so that whatever embeds cells also predicts."""
        return self.predict_truth(self(batch), batch)
