"""What a network of single cells takes and gives."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from stgraph.data.cell_batch import CellBatch


class CellStates(NamedTuple):
    """States of a batch after the last layer.

    Attributes
    ----------
    token
        (T, C) states of all tokens, in the order of the batch; C is the width of the network, not of its embeddings.
    cell
        (S, out_channels) embeddings of the cells, of length 1.
    """

    token: Tensor
    cell: Tensor


class CellNetwork(nn.Module, ABC):
    """A network that reads the genes of a cell, and nothing around it.

    Constructor arguments are kept as attributes of the same name, so that the config of a network can be written; the
    first is ``vocabulary_size``, the rows of its vocabulary.

    Attributes
    ----------
    out_channels
        Width of the embedding of a cell.
    vocabulary_size
        Rows of the vocabulary.

    Shapes
    ------
    T tokens of S cells, in a `stgraph.data.cell_batch.CellBatch`.
    """

    out_channels: int
    vocabulary_size: int

    @abstractmethod
    def forward(self, cells: CellBatch) -> CellStates:
        """States of all tokens and cells."""

    @abstractmethod
    def embed(self, cells: CellBatch) -> Tensor:
        """(S, out_channels) embeddings of length 1, as ``forward(cells).cell``; cheaper, and with gradient."""
