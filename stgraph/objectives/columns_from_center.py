"""Masked gene columns, told from the embedding of the centre alone."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from stgraph.data.neighborhood_batch import NeighborhoodBatch
from stgraph.errors import InputError
from stgraph.models.neighborhood_network import NeighborhoodStates
from stgraph.objectives.masked_columns import MaskedColumns, count_hidden, hidden_of, squared_error


@dataclass(frozen=True)
class ColumnsFromCenter:
    """Mean squared error of hidden values of centre cells, told from the embedding of the centre and the gene alone.

    What the embedding has to know of a cell, for it is all that is seen. Beside
    `stgraph.objectives.masked_columns.MaskedColumns`, before or behind it, it judges what that has hidden. For a
    `stgraph.models.center_teller.CenterTeller` or another network with ``predict_from_center``.

    Parameters
    ----------
    columns
        What hides genes if no other objective does. None: another does.
    weight
        Factor in the sum of losses.

    Examples
    --------
    >>> from stgraph.objectives.columns_from_center import ColumnsFromCenter
    >>> from stgraph.objectives.masked_columns import MaskedColumns
    >>> beside = [MaskedColumns(shared=True), ColumnsFromCenter(weight=0.5)]
    >>> alone = [ColumnsFromCenter(MaskedColumns(nonzero_rate=0.4))]
    """

    columns: MaskedColumns | None = None
    weight: float = 1.0

    name: ClassVar[str] = "columns_from_center"

    def corrupt(self, batch: NeighborhoodBatch, generator: torch.Generator) -> NeighborhoodBatch:
        """Hide ``columns``, if there are any.

        Raises
        ------
        InputError
            As of `stgraph.objectives.masked_columns.MaskedColumns.corrupt`.
        """
        return batch if self.columns is None else self.columns.corrupt(batch, generator)

    def count(self, batch: NeighborhoodBatch) -> Tensor:
        """How many values are hidden."""
        return count_hidden(batch)

    def loss(self, model: Any, output: NeighborhoodStates, batch: NeighborhoodBatch) -> Tensor:
        """Squared error; 0 if nothing is hidden.

        Raises
        ------
        InputError
            If the network has no head for it.
        """
        truth = hidden_of(batch).truth
        if not hasattr(model, "predict_from_center"):
            raise InputError(
                f"{type(model).__name__} cannot tell genes from the embedding of a centre: put it into a CenterTeller "
                "(stgraph.models.center_teller), or leave ColumnsFromCenter out."
            )
        return squared_error(model.predict_from_center(output, batch), truth, output)
