"""What a network of cells with their neighbours takes and gives."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from stgraph.data.neighborhood_batch import NeighborhoodBatch


class NeighborhoodStates(NamedTuple):
    """States of the centres of a batch after the last layer; neighbours have none, for nobody reads them.

    Attributes
    ----------
    token
        (M, C) states of the centres' own tokens: those that an objective left, in their order, centre after centre.
    offsets
        (S + 1,) int64, from 0 to M: centre s has the tokens from ``offsets[s]`` to ``offsets[s + 1]``.
    center
        (S, out_channels) what stands for each centre among its neighbours: its embedding.
    """

    token: Tensor
    offsets: Tensor
    center: Tensor


class NeighborhoodNetwork(nn.Module, ABC):
    """A network that reads the genes of a cell and those of the cells around it.

    Constructor arguments are kept as attributes of the same name, so that the config of a network can be written; the
    first is ``num_genes``, of the vocabulary. `stgraph.testing.neighborhood_network` has the contract as tests.

    Attributes
    ----------
    num_genes
        G. Tokens 0 to G - 1 are genes, G and G + 1 tell the depth, G + 2 is padding.
    out_channels
        Width of the embedding of a cell.
    """

    num_genes: int
    out_channels: int

    @property
    def vocabulary_size(self) -> int:
        """Rows of the table of genes: genes, two depth tokens and padding."""
        return self.num_genes + 3

    @abstractmethod
    def forward(self, batch: NeighborhoodBatch) -> NeighborhoodStates:
        """States of the centres, from what an objective left of the batch (``batch.pack()``)."""

    @abstractmethod
    def predict_hidden(self, states: NeighborhoodStates, batch: NeighborhoodBatch) -> Tensor:
        """(n,) values of the hidden genes of the centres, in the order of ``batch.hidden``, from `forward`'s states."""

    def embed(self, batch: NeighborhoodBatch) -> Tensor:
        """(S, out_channels) embeddings of the centres, with gradient."""
        states: NeighborhoodStates = self(batch)
        return states.center
