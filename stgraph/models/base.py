"""What a model of slice graphs takes and gives."""

from typing import NamedTuple, Protocol

from torch import Tensor
from torch_geometric.data import HeteroData


class ModelOutput(NamedTuple):
    """States of a batch after the last layer.

    Attributes
    ----------
    cell
        (N, C) states of the cells.
    virtual
        (V, C) states of the virtual cells.
    near_pair
        (E, H) pair state of the ``(cell, near, cell)`` edges, in the order of the batch.
    """

    cell: Tensor
    virtual: Tensor
    near_pair: Tensor


class CellGraphModel(Protocol):
    """A network that can be pretrained on parts and asked for embeddings.

    Constructor arguments are kept as attributes of the same name; the first is
    ``in_channels``, the width of the cell features.
    """

    num_layers: int
    """Hops a cell can see, so the halo a part needs for exact inference."""

    def __call__(self, data: HeteroData) -> ModelOutput:
        """States of a batch; cells in ``cell.masked``, if it is there, are hidden."""
        ...

    def embed(self, data: HeteroData) -> Tensor:
        """(N, C) embeddings of the cells of a batch, none masked."""
        ...

    def predict_cells(self, states: Tensor) -> Tensor:
        """(n, in_channels) features of cells from their states (n, C)."""
        ...

    def predict_distances(self, pair: Tensor) -> Tensor:
        """(e,) distances in spacings from pair states (e, H)."""
        ...
