"""Say what the cells are, where it is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from stgraph.data.labelled_neighborhoods import LabelledBatch

AnyBatch: TypeAlias = HeteroData | LabelledBatch
"""Parts of slices, or centres with their neighbours."""


@dataclass(frozen=True)
class CellClasses:
    """Mean cross entropy of the classes in ``cell.truth``, of owned cells where it is not -1.

    For a `stgraph.models.cell_predictor.CellPredictor`; or for a `stgraph.models.center_predictor.CenterPredictor`, of
    the ``truth`` of a `stgraph.data.labelled_neighborhoods.LabelledBatch`. Nothing is corrupted.

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

    def corrupt(self, batch: AnyBatch, generator: torch.Generator) -> AnyBatch:
        """Leave the batch as it is."""
        return batch

    def count(self, batch: AnyBatch) -> Tensor:
        """How many cells are known; with class weights, the sum of their weights, which the loss is a mean over."""
        truth, owned = _truth(batch)
        known = truth[owned & (truth >= 0)]
        if self.class_weights is None:
            return torch.tensor(float(len(known)), device=known.device)
        weights = torch.tensor(list(self.class_weights), dtype=torch.float32, device=known.device)
        total: Tensor = weights[known].sum()
        return total

    def loss(self, model: Any, output: Any, batch: AnyBatch) -> Tensor:
        """Cross entropy; 0 where nothing is known."""
        logits: Tensor = model.predict_truth(output, batch).float()
        truth, owned = _truth(batch)
        judged = (owned & (truth >= 0)).nonzero()[:, 0]
        if len(judged) == 0:
            return logits.sum() * 0.0
        weights = None if self.class_weights is None else logits.new_tensor(list(self.class_weights))
        return F.cross_entropy(logits.index_select(0, judged), truth[judged], weight=weights)


@dataclass(frozen=True)
class CellValues:
    """Mean squared error of the values in ``cell.truth``, of owned cells where none is NaN.

    For the same networks as `CellClasses`. Nothing is corrupted.

    Parameters
    ----------
    weight
        Factor in the sum of losses.
    """

    weight: float = 1.0

    name: ClassVar[str] = "values"

    def corrupt(self, batch: AnyBatch, generator: torch.Generator) -> AnyBatch:
        """Leave the batch as it is."""
        return batch

    def count(self, batch: AnyBatch) -> Tensor:
        """How many cells are known."""
        truth, owned = _truth(batch)
        return (owned & ~truth.isnan().any(dim=1)).sum().float()

    def loss(self, model: Any, output: Any, batch: AnyBatch) -> Tensor:
        """Squared error, mean over cells and values; 0 where nothing is known."""
        values: Tensor = model.predict_truth(output, batch).float()
        truth, owned = _truth(batch)
        judged = (owned & ~truth.isnan().any(dim=1)).nonzero()[:, 0]
        if len(judged) == 0:
            return values.sum() * 0.0
        return F.mse_loss(values.index_select(0, judged), truth[judged])


def _truth(batch: AnyBatch) -> tuple[Tensor, Tensor]:
    """What is known of the cells of a batch, or its centres; and (n,) bool, which of them a loss may count."""
    if isinstance(batch, HeteroData):
        return batch["cell"].truth, batch["cell"].owned
    assert batch.truth is not None
    return batch.truth, torch.ones(len(batch.truth), dtype=torch.bool, device=batch.truth.device)
