"""Say what the cells are, where it is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from stgraph.models.base import CellGraphModel, ModelOutput
from stgraph.models.cell_predictor import CellPredictor


@dataclass(frozen=True)
class CellClasses:
    """Mean cross entropy of the classes in ``cell.truth``, of owned cells where it is not -1.

    For a `stgraph.models.cell_predictor.CellPredictor`. Nothing is corrupted.

    Parameters
    ----------
    class_weights
        (K,) what a cell of each class counts; None if all count alike.
    weight
        Factor in the sum of losses.
    """

    class_weights: Sequence[float] | None = None
    weight: float = 1.0

    name: ClassVar[str] = "classes"

    def corrupt(self, batch: HeteroData, generator: torch.Generator) -> HeteroData:
        """Leave the batch as it is."""
        return batch

    def count(self, batch: HeteroData) -> Tensor:
        """How many cells are known; with class weights, the sum of their weights, which the loss is a mean over."""
        judged = self._judged(batch)
        if self.class_weights is None:
            return torch.tensor(float(len(judged)), device=judged.device)
        weights = torch.tensor(list(self.class_weights), dtype=torch.float32, device=judged.device)
        total: Tensor = weights[batch["cell"].truth[judged]].sum()
        return total

    def loss(self, model: CellGraphModel, output: ModelOutput, batch: HeteroData) -> Tensor:
        """Cross entropy; 0 where nothing is known."""
        logits = cast(CellPredictor, model).predict_truth(output, batch).float()
        truth = batch["cell"].truth
        judged = self._judged(batch)
        if len(judged) == 0:
            return logits.sum() * 0.0
        weights = None if self.class_weights is None else logits.new_tensor(list(self.class_weights))
        return F.cross_entropy(logits.index_select(0, judged), truth[judged], weight=weights)

    @staticmethod
    def _judged(batch: HeteroData) -> Tensor:
        judged: Tensor = (batch["cell"].owned & (batch["cell"].truth >= 0)).nonzero()[:, 0]
        return judged


@dataclass(frozen=True)
class CellValues:
    """Mean squared error of the values in ``cell.truth``, of owned cells where none is NaN.

    For a `stgraph.models.cell_predictor.CellPredictor`. Nothing is corrupted.

    Parameters
    ----------
    weight
        Factor in the sum of losses.
    """

    weight: float = 1.0

    name: ClassVar[str] = "values"

    def corrupt(self, batch: HeteroData, generator: torch.Generator) -> HeteroData:
        """Leave the batch as it is."""
        return batch

    def count(self, batch: HeteroData) -> Tensor:
        """How many cells are known."""
        judged = self._judged(batch)
        return torch.tensor(float(len(judged)), device=judged.device)

    def loss(self, model: CellGraphModel, output: ModelOutput, batch: HeteroData) -> Tensor:
        """Squared error, mean over cells and values; 0 where nothing is known."""
        values = cast(CellPredictor, model).predict_truth(output, batch).float()
        truth = batch["cell"].truth
        judged = self._judged(batch)
        if len(judged) == 0:
            return values.sum() * 0.0
        return F.mse_loss(values.index_select(0, judged), truth[judged])

    @staticmethod
    def _judged(batch: HeteroData) -> Tensor:
        judged: Tensor = (batch["cell"].owned & ~batch["cell"].truth.isnan().any(dim=1)).nonzero()[:, 0]
        return judged
