"""Genes of a cell from its embedding: say which were taken out of its sequence."""

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
class GenesFromCell:
    """Mean cross entropy of genes that were taken out of a cell, told from its embedding alone.

    For a `stgraph.models.cell_network.CellNetwork` with ``predict_genes_of``. A share of the genes is not masked, but
    removed, and those behind move up: nothing says that they are missing, or where. (A gene that is masked in a
    sequence in order of expression is bracketed by its neighbours, see `stgraph.objectives.masked_gene.MaskedGene`.)
    A softmax over the vocabulary, without the genes that the cell still shows and special tokens, says which gene was
    removed; so the embedding has to say what cells like this one express.

    The first token of each cell, its class token, stays. Cells in two views lack different genes if this comes after
    what doubled them (`stgraph.objectives.contrastive.DropoutPairs`), the same ones if before. Genes that were cut
    from a long cell are not among those shown, nor are they asked for.

    Parameters
    ----------
    hide_rate
        Share of the gene tokens of a batch that are removed.
    special_tokens
        Tokens that are no genes, besides the first of each cell: padding and mask.
    weight
        Factor in the sum of losses.

    Examples
    --------
    >>> import torch
    >>> from stgraph.data.cell_batch import CellBatch
    >>> from stgraph.objectives.genes_from_cell import GenesFromCell
    >>> cells = CellBatch(torch.tensor([9, 2, 3, 9, 4, 5]), torch.tensor([0, 3, 6]), torch.tensor([0, 1]))
    >>> spoilt = GenesFromCell().corrupt(cells, torch.Generator().manual_seed(0))
    >>> spoilt.tokens.tolist(), spoilt.offsets.tolist(), spoilt.removed_genes.truth.tolist()
    ([9, 9, 4, 5], [0, 1, 4], [2, 3])
    """

    hide_rate: float = 0.5
    special_tokens: Sequence[int] = (0, 1)
    weight: float = 1.0

    name: ClassVar[str] = "genes_from_cell"
    reads_cell: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.hide_rate < 1:
            raise InputError(f"GenesFromCell needs a hide_rate between 0 and 1, not {self.hide_rate}.")

    def corrupt(self, batch: CellBatch, generator: torch.Generator) -> CellBatch:
        """Take genes out; what they were, and of which rows, is in ``removed_genes``.

        Raises
        ------
        InputError
            If something was hidden already, whose places would be others afterwards.
        """
        if batch.hidden_genes is not None or batch.hidden_values is not None:
            raise InputError(
                "GenesFromCell takes tokens out, but some are hidden already and known by their places: put it before "
                "MaskedGene, MaskedValue and ValueFromCell."
            )
        removed = choose_cells(batch.genes(self.special_tokens), self.hide_rate, generator)
        rows, kept = batch.row_of_token, ~removed
        lengths = torch.bincount(rows[kept], minlength=batch.num_cells)
        spoilt = replace(
            batch,
            tokens=batch.tokens[kept],
            offsets=torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]),
            values=None if batch.values is None else batch.values[kept],
        )
        at, truth = rows[removed], batch.tokens[removed]
        # A token that stands twice in a cell, as two mouse genes with one human ortholog, may still be shown.
        most = int(batch.tokens.max()) + 1 if batch.num_tokens else 1
        gone = ~torch.isin(at * most + truth, spoilt.row_of_token * most + spoilt.tokens)
        return replace(spoilt, removed_genes=Hidden(at[gone], truth[gone]))

    def count(self, batch: CellBatch) -> Tensor:
        """How many genes were removed."""
        return batch.tokens.new_tensor(len(_removed(batch).at), dtype=torch.float32)

    def loss(self, model: Any, output: CellStates, batch: CellBatch) -> Tensor:
        """Cross entropy; 0 if nothing was removed."""
        at, truth = _removed(batch)
        # Only cells that lack a gene: for one that shows the whole vocabulary there is nothing to choose from.
        rows, place = torch.unique(at, return_inverse=True)
        logits: Tensor = model.predict_genes_of(output.cell.index_select(0, rows)).float()
        if len(at) == 0:
            return output.cell.sum() * 0.0 + logits.sum() * 0.0
        log_shares = logits.masked_fill(self._excluded(batch, rows, logits), -torch.inf).log_softmax(1)
        return F.nll_loss(log_shares[place], truth)

    def _excluded(self, batch: CellBatch, rows: Tensor, logits: Tensor) -> Tensor:
        """(rows, vocabulary) bool, genes that are shown, special tokens and class tokens."""
        out = torch.zeros_like(logits, dtype=torch.bool)
        out[:, list(self.special_tokens)] = True
        out[:, torch.unique(batch.tokens[batch.offsets[:-1]])] = True
        number = torch.full((batch.num_cells,), -1, device=rows.device)
        number[rows] = torch.arange(len(rows), device=rows.device)
        row = number[batch.row_of_token]
        here = row >= 0
        # What is masked now is in the cell all the same, and what stands in place of it is not.
        hidden = batch.hidden_genes
        tokens = batch.tokens if hidden is None else batch.tokens.index_copy(0, hidden.at, hidden.truth)
        out[row[here], tokens[here]] = True
        return out


def _removed(batch: CellBatch) -> Hidden:
    if batch.removed_genes is None:
        raise InputError("No genes of this batch were removed: GenesFromCell judges what its corrupt has taken out.")
    return batch.removed_genes
