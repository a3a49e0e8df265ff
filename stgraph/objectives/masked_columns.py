"""Masked gene columns: say how much of a gene a cell has, where the cells around it do not show that gene either."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from stgraph.data.cell_batch import CellBatch
from stgraph.data.neighborhood_batch import HiddenGenes, NeighborhoodBatch, PackedNeighborhoods
from stgraph.errors import InputError
from stgraph.models.neighborhood_network import NeighborhoodStates


@dataclass(frozen=True)
class MaskedColumns:
    """Mean squared error of hidden values of centre cells, expressed and not, as AIDO.Tissue is pretrained.

    Of each centre, genes are drawn among those it expresses and among those of its panel that it does not, each by
    itself with the rate of its kind. The same genes are taken out of the cells around it: a column of the
    neighbourhood is hidden, so that no neighbour says it. A
    `stgraph.models.neighborhood_network.NeighborhoodNetwork` says the values (``log1p`` of counts per 10,000) from what
    is left.

    What is known of hidden genes nevertheless: values are shares of *all* counts of a cell, and the depth tokens tell
    their sum, those of hidden genes included, as in the published model. So the sum of what is hidden is known from
    the sum of what is shown; and where most counts are 1, an expressed gene has the value that every other gene of the
    cell shows. And an expressed gene is hidden ten times as often as one that is not, so that a hidden one is more
    likely expressed than its frequency says.

    Parameters
    ----------
    nonzero_rate
        Share of the expressed genes of a centre that are hidden.
    zero_rate
        Share of the genes of its panel that it does not express. Neither rate of AIDO.Tissue is published; these are
        those of scFoundation, from which it comes.
    shared
        One draw of columns for the whole batch: they are taken out of its cells, not of its neighbourhoods, so that
        each cell looks the same from all of them. For networks that summarise a cell once. Of the genes that a centre
        does not express only so many are asked for that their rate is ``zero_rate``, which is to be no more than
        ``nonzero_rate``; the others are known to be zero.
    weight
        Factor in the sum of losses.

    References
    ----------
    GenBio AI. AIDO.Tissue: spatial cell-guided pretraining for scalable spatial transcriptomics foundation model, 2025.
    Hao et al. Large-scale foundation model on single-cell transcriptomics. Nature Methods, 2024.

    Examples
    --------
    >>> from stgraph.objectives.masked_columns import MaskedColumns
    >>> MaskedColumns(zero_rate=0.1).nonzero_rate
    0.3
    """

    nonzero_rate: float = 0.3
    zero_rate: float = 0.03
    shared: bool = False
    weight: float = 1.0

    name: ClassVar[str] = "masked_columns"

    def __post_init__(self) -> None:
        if not (0 < self.nonzero_rate < 1 and 0 <= self.zero_rate < 1):
            raise InputError(
                "MaskedColumns needs a nonzero_rate between 0 and 1 and a zero_rate from 0 to below 1, not "
                f"{self.nonzero_rate} and {self.zero_rate}."
            )
        if self.shared and self.zero_rate > self.nonzero_rate:
            raise InputError(
                f"MaskedColumns with shared columns hides no zeros beyond the columns of nonzero_rate: lower zero_rate "
                f"to at most {self.nonzero_rate}, not {self.zero_rate}."
            )

    def corrupt(self, batch: NeighborhoodBatch, generator: torch.Generator) -> NeighborhoodBatch:
        """Hide genes; what they were is in ``hidden``.

        Raises
        ------
        InputError
            If another objective has hidden genes already, or shared columns leave a cell without any token, which depth
            tokens prevent.
        """
        if batch.hidden is not None:
            raise InputError(
                "Genes of this batch are hidden already, by other settings perhaps: of all objectives only one may "
                "hide, so give ColumnsFromCenter no columns beside MaskedColumns."
            )
        packed = batch.pack()
        genes = torch.unique(torch.cat(batch.panels))
        column = _columns(batch.unique.tokens, genes)
        value, expressed = _of_centers(batch, packed, column, len(genes))
        measured = torch.stack([torch.isin(genes, panel) for panel in batch.panels])[batch.panel]
        if self.shared:
            taken, asked = self._draw_shared(expressed, generator)
            spoilt = replace(batch, unique=_without(batch.unique, taken[column]))
        else:
            asked = self._draw_each(measured, expressed, packed.center_tokens, generator)
            gone = asked[packed.row_of_token, column[packed.source]]
            spoilt = replace(batch, packed=packed.keep(~gone))
        row, which = (asked[:, :-1] & measured).nonzero(as_tuple=True)
        return replace(spoilt, hidden=HiddenGenes(row, genes[which], value[row, which]))

    def count(self, batch: NeighborhoodBatch) -> Tensor:
        """How many values are hidden."""
        return count_hidden(batch)

    def loss(self, model: Any, output: NeighborhoodStates, batch: NeighborhoodBatch) -> Tensor:
        """Squared error; 0 if nothing is hidden."""
        truth = hidden_of(batch).truth
        return squared_error(model.predict_hidden(output, batch), truth, output)

    def _draw_each(
        self, measured: Tensor, expressed: Tensor, center_tokens: Tensor, generator: torch.Generator
    ) -> Tensor:
        """(S, n + 1) bool, what is hidden of each centre."""
        draw = torch.rand(expressed.shape, generator=generator).to(expressed.device)
        asked = measured & (draw < torch.where(expressed, self.nonzero_rate, self.zero_rate))
        # Something is to be seen of every centre, also where there are no depth tokens.
        asked &= ((asked & expressed).sum(dim=1) < center_tokens)[:, None]
        return F.pad(asked, (0, 1))

    def _draw_shared(self, expressed: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(n + 1,) bool, the columns that are taken out; and (S, n + 1) bool, what is asked for."""
        taken = torch.rand(expressed.shape[1], generator=generator) < self.nonzero_rate
        zeros = torch.rand(expressed.shape, generator=generator) < self.zero_rate / self.nonzero_rate
        taken = taken.to(expressed.device)
        return F.pad(taken, (0, 1)), F.pad(taken & (expressed | zeros.to(expressed.device)), (0, 1))


def _columns(tokens: Tensor, genes: Tensor) -> Tensor:
    """Column of each token, among n genes in rising order; n for what is none of them, as depth tokens are."""
    place = torch.searchsorted(genes, tokens)
    found = F.pad(genes, (0, 1), value=-1)[place] == tokens
    return torch.where(found, place, len(genes))


def _of_centers(batch: NeighborhoodBatch, packed: PackedNeighborhoods, column: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """(S, n) values of the genes of centres, 0 where there is none; and (S, n) bool, whether there is one."""
    at = packed.center_positions
    place = packed.row_of_token[at], column[packed.source[at]]
    values = batch.unique.values
    assert values is not None
    value = values.new_zeros((batch.num_cells, n + 1)).index_put(place, values[packed.source[at]])
    expressed = torch.zeros_like(value, dtype=torch.bool).index_put(place, torch.ones_like(at, dtype=torch.bool))
    return value[:, :n], expressed[:, :n]


def _without(cells: CellBatch, gone: Tensor) -> CellBatch:
    """The same cells without some of their tokens (T,)."""
    left = F.pad((~gone).cumsum(0), (1, 0))[cells.offsets]
    if bool((left.diff() == 0).any()):
        raise InputError(
            "MaskedColumns with shared columns took all tokens of a cell: give cells their depth tokens "
            "(depth_tokens=True), which no objective hides."
        )
    assert cells.values is not None
    return replace(cells, tokens=cells.tokens[~gone], values=cells.values[~gone], offsets=left)


def hidden_of(batch: NeighborhoodBatch) -> HiddenGenes:
    """What is hidden in a batch.

    Raises
    ------
    InputError
        If no objective has hidden anything.
    """
    if batch.hidden is None:
        raise InputError(
            "No genes of this batch were hidden: put MaskedColumns among the objectives, or give ColumnsFromCenter "
            "columns to hide."
        )
    return batch.hidden


def count_hidden(batch: NeighborhoodBatch) -> Tensor:
    """How many values are hidden, () float32."""
    return batch.neighbors.new_tensor(len(hidden_of(batch).gene), dtype=torch.float32)


def squared_error(predicted: Tensor, truth: Tensor, output: NeighborhoodStates) -> Tensor:
    """Mean squared error of (n,) values; 0, with a gradient, if there are none."""
    if len(truth) == 0:
        return output.center.sum() * 0.0 + predicted.float().sum() * 0.0
    error: Tensor = F.mse_loss(predicted.float(), truth)
    return error
