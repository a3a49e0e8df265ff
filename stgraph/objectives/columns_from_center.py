"""Masked gene columns, told from the embedding of the centre alone."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from stgraph.data.neighborhood_batch import NeighborhoodBatch
from stgraph.errors import InputError
from stgraph.models.neighborhood_network import NeighborhoodStates
from stgraph.objectives.masked_columns import MaskedColumns


@dataclass(frozen=True)
class ColumnsFromCenter(MaskedColumns):
    """Mean squared error of hidden values of centre cells, told from the embedding of the centre and the gene alone.

    What the embedding has to know of a cell, for it is all that is seen. Beside
    `stgraph.objectives.masked_columns.MaskedColumns`, the same genes are hidden for both. For a
    `stgraph.models.center_teller.CenterTeller` or another network with ``predict_from_center``.

    Parameters
    ----------
    nonzero_rate, zero_rate, shared, weight
        As for `stgraph.objectives.masked_columns.MaskedColumns`.

    Examples
    --------
    >>> from stgraph.objectives.columns_from_center import ColumnsFromCenter
    >>> ColumnsFromCenter(weight=0.5).name
    'columns_from_center'
    """

    name: ClassVar[str] = "columns_from_center"

    def loss(self, model: Any, output: NeighborhoodStates, batch: NeighborhoodBatch) -> Tensor:
        """Squared error; 0 if nothing is hidden.

        Raises
        ------
        InputError
            If the network has no head for it.
        """
        if batch.hidden is None:
            raise InputError(
                "No genes of this batch were hidden: ColumnsFromCenter judges what its corrupt has spoilt."
            )
        if not hasattr(model, "predict_from_center"):
            raise InputError(
                f"{type(model).__name__} cannot tell genes from the embedding of a centre: put it into a CenterTeller "
                "(stgraph.models.center_teller), or leave ColumnsFromCenter out."
            )
        truth = batch.hidden.truth
        predicted: Tensor = model.predict_from_center(output, batch).float()
        if len(truth) == 0:
            return output.center.sum() * 0.0 + predicted.sum() * 0.0
        error: Tensor = F.mse_loss(predicted, truth)
        return error
