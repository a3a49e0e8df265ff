"""What a model of slice graphs takes and gives."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn
from torch_geometric.data import HeteroData


class ModelOutput(NamedTuple):
    """States of a batch after the last layer.

    Attributes
    ----------
    cell
        (N, C) states of the cells.
    query
        (N, C) for each cell, what its surroundings say about it: the state of a node at
        its place that holds no content and sees all the cell sees, but not the cell. In a
        model without queries it is ``cell``, which says so of masked cells only.
    virtual
        (V, C) states of the virtual cells.
    near_pair
        (E, H) pair state of the ``(cell, near, cell)`` edges, in the order of the batch.
    virtual_pair
        (E', H) pair state of the ``(virtual, informs, cell)`` edges, in the order of the batch; None unless these edges
        have a ``true_length`` in it, for they are many.
    """

    cell: Tensor
    query: Tensor
    virtual: Tensor
    near_pair: Tensor
    virtual_pair: Tensor | None = None


class CellGraphModel(nn.Module, ABC):
    """A network that can be pretrained on parts of slices and asked for embeddings.

    Constructor arguments are kept as attributes of the same name, so that the config of
    a model can be written; the first is ``in_channels``, the width of the cell features.

    Attributes
    ----------
    num_layers
        Hops a cell can see, so the halo a part needs for exact inference.
    part_size
        Cells of a part, for models to which a part is all there is: they are embedded part by part, without a halo.
        None where parts with a halo give the embeddings of the whole slice.
    """

    num_layers: int
    part_size: int | None = None

    @abstractmethod
    def forward(self, data: HeteroData) -> ModelOutput:
        """States of a batch; cells where ``cell.masked`` is true, if it is there, are hidden."""

    @abstractmethod
    def embed(self, data: HeteroData) -> Tensor:
        """(N, C) embeddings of the cells of a batch, none masked, without gradient."""

    @abstractmethod
    def predict_cells(self, states: Tensor) -> Tensor:
        """(n, in_channels) features of cells from their states (n, C)."""

    @abstractmethod
    def predict_distances(self, pair: Tensor) -> Tensor:
        """(e,) log1p of distances in spacings, from pair states (e, H); standardised if the objective says so."""
