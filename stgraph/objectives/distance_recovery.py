"""Pairwise distance recovery: say how far apart two cells are, one of which was moved."""

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from stgraph.data.choice import choose_cells
from stgraph.data.edge_types import AT_CELLS, NEAR
from stgraph.data.lengths import measure_, spacing_of
from stgraph.models.base import CellGraphModel, ModelOutput


@dataclass(frozen=True)
class DistanceRecovery:
    """Squared error of the true log lengths of edges at moved cells (SToFM's PDR on edges).

    A share of the cells is moved by Gaussian noise; the model sees the lengths after the
    move, and tells those before it from its pair state. Nothing else marks a moved cell.

    Parameters
    ----------
    move_rate
        Share of the cells of a part that are moved.
    jitter
        Standard deviation of the move along each axis, in spacings of the slice.
    weight
        Factor in the sum of losses.
    """

    move_rate: float = 0.1
    jitter: float = 1.0
    weight: float = 0.05

    name: ClassVar[str] = "distance_recovery"

    def __post_init__(self) -> None:
        if not 0 < self.move_rate < 1 or self.jitter <= 0:
            raise ValueError("DistanceRecovery needs a move_rate between 0 and 1 and a positive jitter.")

    def corrupt(self, batch: HeteroData, generator: torch.Generator) -> HeteroData:
        """Move cells and measure all edges at them anew."""
        batch = copy.copy(batch)
        cell = batch["cell"]
        moved = choose_cells(cell.owned, self.move_rate, generator)
        noise = torch.randn(cell.num_nodes, 2, generator=generator).to(cell.pos) * self.jitter
        cell.moved = moved
        cell.pos = cell.pos + torch.where(moved[:, None], noise * spacing_of(batch)[:, None], 0.0)
        batch[NEAR].true_length = batch[NEAR].edge_attr[:, 0]
        measure_(batch, AT_CELLS)
        return batch

    def loss(self, model: CellGraphModel, output: ModelOutput, batch: HeteroData) -> Tensor:
        """Mean squared error, over the edges with a moved end, of ``log1p`` of the length in spacings."""
        cell = batch["cell"]
        source, target = batch[NEAR].edge_index
        judged = (cell.moved[source] | cell.moved[target]).nonzero()[:, 0]
        if len(judged) == 0:
            return output.near_pair.sum() * 0.0
        # As the logarithm, in which one stray cell far from the tissue does not outweigh all others.
        true = batch[NEAR].true_length[judged] / spacing_of(batch)[target[judged]]
        return F.mse_loss(model.predict_distances(output.near_pair.index_select(0, judged)).float(), true.log1p())
