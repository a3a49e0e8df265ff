"""Pairwise distance recovery: say how far apart two cells are, one of which was moved."""

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from stgraph.data.convert import NEAR, TO_CELL, TO_VIRTUAL
from stgraph.models.base import CellGraphModel, ModelOutput
from stgraph.objectives.base import choose_cells


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
        spacing = batch.spacing if "batch" not in cell else batch.spacing[cell.batch]
        cell.moved = moved
        cell.pos = cell.pos + torch.where(moved[:, None], noise * spacing[:, None], 0.0)
        batch[NEAR].true_length = batch[NEAR].edge_attr[:, 0]
        for edge_type in (NEAR, TO_CELL, TO_VIRTUAL):
            source, target = batch[edge_type].edge_index
            gap = batch[edge_type[0]].pos[source] - batch[edge_type[2]].pos[target]
            batch[edge_type].edge_attr = gap.norm(dim=1, keepdim=True)
        return batch

    def loss(self, model: CellGraphModel, output: ModelOutput, batch: HeteroData) -> Tensor:
        """Mean squared error, over the edges with a moved end, of ``log1p`` of the length in spacings."""
        cell = batch["cell"]
        source, target = batch[NEAR].edge_index
        spacing = batch.spacing.expand(cell.num_nodes) if "batch" not in cell else batch.spacing[cell.batch]
        judged = (cell.moved[source] | cell.moved[target]).nonzero()[:, 0]
        if len(judged) == 0:
            return output.near_pair.sum() * 0.0
        # As the logarithm, in which one stray cell far from the tissue does not outweigh all others.
        true = batch[NEAR].true_length[judged] / spacing[target[judged]]
        return F.mse_loss(model.predict_distances(output.near_pair.index_select(0, judged)).float(), true.log1p())
