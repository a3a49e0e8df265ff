"""Masked cell modelling: say what a hidden cell is from what surrounds it."""

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from stgraph.data.choice import choose_cells
from stgraph.models.base import CellGraphModel, ModelOutput


@dataclass(frozen=True)
class MaskedCell:
    """Mean squared error of the features of masked cells (SToFM's MCM).

    Parameters
    ----------
    mask_rate
        Share of the cells of a part that are masked.
    weight
        Factor in the sum of losses.
    """

    mask_rate: float = 0.3
    weight: float = 1.0

    name: ClassVar[str] = "masked_cell"

    def __post_init__(self) -> None:
        if not 0 < self.mask_rate < 1:
            raise ValueError(f"MaskedCell needs a mask_rate between 0 and 1, not {self.mask_rate}.")

    def corrupt(self, batch: HeteroData, generator: torch.Generator) -> HeteroData:
        """Mark the masked cells in ``cell.masked``; the model hides them."""
        batch = copy.copy(batch)
        batch["cell"].masked = choose_cells(batch["cell"].owned, self.mask_rate, generator)
        return batch

    def loss(self, model: CellGraphModel, output: ModelOutput, batch: HeteroData) -> Tensor:
        """Mean squared error over the queries of masked cells and over features."""
        masked = batch["cell"].masked
        hidden = masked.nonzero()[:, 0]
        predicted = model.predict_cells(output.query.index_select(0, hidden))
        return F.mse_loss(predicted.float(), batch["cell"].x[hidden])
