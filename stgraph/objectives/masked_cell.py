"""Masked cell modelling: say what a hidden cell is from what surrounds it."""

import copy
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from stgraph.data.choice import choose_disjoint
from stgraph.data.leaving_out import leave_out_
from stgraph.errors import InputError
from stgraph.models.base import CellGraphModel, ModelOutput

CellError = Literal["squared", "cosine"]
"""How far a prediction is from the truth."""


@dataclass(frozen=True)
class MaskedCell:
    """Error of the predicted features of masked cells (SToFM's MCM).

    What a masked cell shows instead of its features is the model's affair.

    Parameters
    ----------
    mask_rate
        Share of the cells of a part that are masked.
    weight
        Factor in the sum of losses.
    keep_rate
        Share of the cells, others than these, that are judged like them, but not hidden: where a state is all that is
        known of a cell, its state has to say what the cell is whether or not it was hidden. SToFM's code masks 12 %
        and keeps 3 %, its paper masks 10 %.
    error
        ``"squared"``, the mean over features; or ``"cosine"``, 1 less the cosine, for features of which only the
        direction counts. For features of length 1 the sum of squares is twice the latter, if predictions have length 1.
    hide_from_virtual
        Whether to take masked cells out of the virtual cells they belong to, whose features are means over all members
        and so hold a share of the answer: a large one where a virtual cell has few members, or the model knows the
        others. False leaves them in, as in SToFM's code.

    Examples
    --------
    >>> import torch, stgraph
    >>> from stgraph.data.convert import to_hetero_data
    >>> from stgraph.objectives.masked_cell import MaskedCell
    >>> data = to_hetero_data(stgraph.build_graph(stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]))
    >>> objective = MaskedCell(mask_rate=0.12, keep_rate=0.03, error="cosine")
    >>> batch = objective.corrupt(data, torch.Generator().manual_seed(0))
    >>> int(batch["cell"].masked.sum()), objective.count(batch)
    (24, tensor(30.))
    """

    mask_rate: float = 0.3
    weight: float = 1.0
    keep_rate: float = 0.0
    error: CellError = "squared"
    hide_from_virtual: bool = False

    name: ClassVar[str] = "masked_cell"

    def __post_init__(self) -> None:
        if not 0 < self.mask_rate < 1:
            raise InputError(f"MaskedCell needs a mask_rate between 0 and 1, not {self.mask_rate}.")
        if not 0 <= self.keep_rate <= 1 - self.mask_rate:
            raise InputError(
                f"MaskedCell needs a keep_rate of 0 or more that leaves room for its mask_rate, not {self.keep_rate}."
            )
        if self.error not in get_args(CellError):
            raise InputError(f"MaskedCell's error is one of {', '.join(get_args(CellError))}, not {self.error!r}.")
        if not isinstance(self.hide_from_virtual, bool):
            raise InputError(f"MaskedCell's hide_from_virtual is true or false, not {self.hide_from_virtual!r}.")

    def corrupt(self, batch: HeteroData, generator: torch.Generator) -> HeteroData:
        """Mark the masked cells in ``cell.masked``, which the model hides, and in ``cell.shown`` those kept."""
        batch = copy.copy(batch)
        cell = batch["cell"]
        cell.masked, cell.shown = choose_disjoint(cell.owned, (self.mask_rate, self.keep_rate), generator)
        if self.hide_from_virtual:
            leave_out_(batch, cell.masked)
        return batch

    def count(self, batch: HeteroData) -> Tensor:
        """How many cells are judged."""
        return self._judged(batch).sum().float()

    def loss(self, model: CellGraphModel, output: ModelOutput, batch: HeteroData) -> Tensor:
        """Mean error over the queries of judged cells; 0 if there is none."""
        judged = self._judged(batch).nonzero()[:, 0]
        predicted = model.predict_cells(output.query.index_select(0, judged)).float()
        if len(judged) == 0:
            return predicted.sum() * 0.0
        truth = batch["cell"].x[judged]
        if self.error == "squared":
            return F.mse_loss(predicted, truth)
        return (1 - F.cosine_similarity(predicted, truth.float())).mean()

    @staticmethod
    def _judged(batch: HeteroData) -> Tensor:
        judged: Tensor = batch["cell"].masked | batch["cell"].shown
        return judged
