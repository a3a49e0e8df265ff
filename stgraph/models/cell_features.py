"""No network: the features of cells are their embeddings."""

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from stgraph.errors import InputError
from stgraph.models.base import CellGraphModel, ModelOutput


class CellFeatures(CellGraphModel):
    """Gives the features of cells as they are, where the encoder has read the surroundings already.

    With an encoder such as `stgraph.tasks.neighborhood_encoder.NeighborhoodEncoder` it makes a model that is trained,
    saved and applied as those that have a network of their own.

    Parameters
    ----------
    in_channels
        Width of the features.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.data.convert import to_hetero_data
    >>> from stgraph.models.cell_features import CellFeatures
    >>> data = to_hetero_data(stgraph.build_graph(stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]))
    >>> bool((CellFeatures(20).embed(data) == data["cell"].x).all())
    True
    """

    num_layers = 0

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels

    def forward(self, data: HeteroData) -> ModelOutput:
        """States of a batch."""
        cell, virtual = data["cell"].x, data["virtual"].x
        pair = cell.new_zeros((data["cell", "near", "cell"].num_edges, 0))
        return ModelOutput(cell, cell, virtual, pair)

    @torch.no_grad()
    def embed(self, data: HeteroData) -> Tensor:
        """(N, in_channels) features of the cells."""
        features: Tensor = data["cell"].x
        return features

    def predict_cells(self, states: Tensor) -> Tensor:
        """Refuse: there is nothing to train."""
        raise InputError("CellFeatures has no weights, so no stage can train it: choose another model.")

    def predict_distances(self, pair: Tensor) -> Tensor:
        """Refuse: there is nothing to train."""
        raise InputError("CellFeatures has no weights, so no stage can train it: choose another model.")
