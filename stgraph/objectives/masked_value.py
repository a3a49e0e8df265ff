"""Masked value modelling: say how much of a gene there is from the other genes of the cell."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from stgraph.data.cell_batch import CellBatch, Hidden
from stgraph.data.choice import choose_cells
from stgraph.errors import InputError
from stgraph.models.cell_network import CellStates


@dataclass(frozen=True)
class MaskedValue:
    """Mean squared error of ``log1p`` of hidden values, told from the states of their tokens.

    For a `stgraph.models.value_encoder.ValueEncoder` or another network with ``predict_values``. The gene is seen, its
    value is NaN. The class token has no value to hide.

    Values that are shares of the counts of a cell sum to a constant where no gene was cut, so the sum of hidden ones
    is known from the others. And where most counts are 1, nearly all values of a cell are the same, one over its depth:
    then there is little to learn but depth.

    Parameters
    ----------
    mask_rate
        Share of the values of a batch that are hidden.
    special_tokens
        Tokens that are no genes, besides the first of each cell.
    weight
        Factor in the sum of losses.

    Examples
    --------
    >>> import torch
    >>> from stgraph.data.cell_batch import CellBatch
    >>> from stgraph.objectives.masked_value import MaskedValue
    >>> values = torch.tensor([0.0, 5.0, 1.0, 0.0, 2.0])
    >>> cells = CellBatch(torch.tensor([9, 2, 3, 9, 4]), torch.tensor([0, 3, 5]), torch.tensor([0, 1]), values)
    >>> MaskedValue().corrupt(cells, torch.Generator().manual_seed(0)).values
    tensor([0., 5., 1., 0., nan])
    """

    mask_rate: float = 0.15
    special_tokens: Sequence[int] = (0,)
    weight: float = 1.0

    name: ClassVar[str] = "masked_value"
    reads_cell: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.mask_rate < 1:
            raise InputError(f"{type(self).__name__} needs a mask_rate between 0 and 1, not {self.mask_rate}.")

    def corrupt(self, batch: CellBatch, generator: torch.Generator) -> CellBatch:
        """Hide values, unless another objective has; ``log1p`` of them is in ``hidden_values``.

        Raises
        ------
        InputError
            If the batch has no values.
        """
        if batch.hidden_values is not None:
            return batch
        if batch.values is None:
            raise InputError(f"{type(self).__name__} hides values, and the batch has none: tokenise with values.")
        chosen = choose_cells(batch.genes(self.special_tokens), self.mask_rate, generator)
        at = chosen.nonzero()[:, 0]
        values = batch.values.masked_fill(chosen, torch.nan)
        return replace(batch, values=values, hidden_values=Hidden(at, batch.values[at].log1p()))

    def count(self, batch: CellBatch) -> Tensor:
        """How many values are hidden."""
        return batch.tokens.new_tensor(len(_hidden(batch).at), dtype=torch.float32)

    def loss(self, model: Any, output: CellStates, batch: CellBatch) -> Tensor:
        """Squared error; 0 if nothing is hidden."""
        at, truth = _hidden(batch)
        predicted: Tensor = model.predict_values(output.token.index_select(0, at)).float()
        if len(at) == 0:
            return output.token.sum() * 0.0 + predicted.sum() * 0.0
        error: Tensor = F.mse_loss(predicted, truth)
        return error


@dataclass(frozen=True)
class ValueFromCell(MaskedValue):
    """Mean squared error of ``log1p`` of hidden values, told from the embedding of the cell and the gene alone.

    What the embedding has to know of a cell, for it is all that is seen (scGPT's objective for cell embeddings).
    Beside `MaskedValue`, the same values are hidden for both. For a network with ``predict_values_of``.

    Parameters
    ----------
    mask_rate, special_tokens, weight
        As for `MaskedValue`.

    References
    ----------
    Cui et al., scGPT: toward building a foundation model for single-cell multi-omics using generative AI (2024).

    Examples
    --------
    >>> from stgraph.objectives.masked_value import ValueFromCell
    >>> ValueFromCell(mask_rate=0.4).name
    'value_from_cell'
    """

    name: ClassVar[str] = "value_from_cell"
    reads_cell: ClassVar[bool] = True

    def loss(self, model: Any, output: CellStates, batch: CellBatch) -> Tensor:
        """Squared error; 0 if nothing is hidden."""
        at, truth = _hidden(batch)
        rows = batch.row_of_token[at]
        predicted: Tensor = model.predict_values_of(output.cell.index_select(0, rows), batch.tokens[at]).float()
        if len(at) == 0:
            return output.cell.sum() * 0.0 + predicted.sum() * 0.0
        error: Tensor = F.mse_loss(predicted, truth)
        return error


def _hidden(batch: CellBatch) -> Hidden:
    if batch.hidden_values is None:
        raise InputError("No values of this batch were hidden: MaskedValue judges what its corrupt has spoilt.")
    return batch.hidden_values
