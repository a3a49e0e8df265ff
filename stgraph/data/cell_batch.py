"""Cells as sequences of tokens, end to end without padding: what a network of cells reads."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from stgraph.errors import InputError


class Hidden(NamedTuple):
    """What an objective hid from a batch, and has to be told.

    Attributes
    ----------
    at
        (n,) int64, positions among the tokens of the batch.
    truth
        (n,) what was there: gene tokens (int64) or values (float32).
    """

    at: Tensor
    truth: Tensor


@dataclass(frozen=True)
class CellBatch:
    """Some cells, each a sequence of tokens.

    Attributes
    ----------
    tokens
        (T,) int64, the tokens of all cells, one cell after another. No padding.
    offsets
        (S + 1,) int64, from 0 to T: cell s has the tokens from ``offsets[s]`` to ``offsets[s + 1]``.
    cell
        (S,) int64, the number of each cell in its data set. Rows with the same number are views
        of one cell.
    values
        (T,) float32, the value of each token's gene, for networks that read it; else None.
    partner
        (P, 2) int64, pairs of rows that are neighbours in the tissue; None where nobody asked.
    hidden_genes, hidden_values
        What was hidden by an objective; None if nothing.
    removed_genes
        Genes that an objective took out of the sequences; ``at`` are rows of cells, for there is no token left.

    Shapes
    ------
    T tokens, S cells (sequences), P pairs, n hidden tokens.

    Examples
    --------
    >>> import torch
    >>> from stgraph.data.cell_batch import CellBatch
    >>> cells = CellBatch(torch.tensor([9, 2, 3, 9, 4]), torch.tensor([0, 3, 5]), torch.tensor([10, 11]))
    >>> cells.num_cells, cells.num_tokens, cells.lengths.tolist(), cells.row_of_token.tolist()
    (2, 5, [3, 2], [0, 0, 0, 1, 1])
    """

    tokens: Tensor
    offsets: Tensor
    cell: Tensor
    values: Tensor | None = None
    partner: Tensor | None = None
    hidden_genes: Hidden | None = None
    hidden_values: Hidden | None = None
    removed_genes: Hidden | None = None

    def __post_init__(self) -> None:
        t, s = self.tokens.shape, self.cell.shape
        if len(t) != 1 or len(s) != 1 or self.offsets.shape != (len(self.cell) + 1,):
            raise InputError(
                f"A CellBatch needs tokens (T,), cell (S,) and offsets (S + 1,), not {tuple(t)}, {tuple(s)} and "
                f"{tuple(self.offsets.shape)}."
            )
        if self.values is not None and self.values.shape != t:
            raise InputError(f"A CellBatch of {len(self.tokens)} tokens has values {tuple(self.values.shape)}.")

    @property
    def num_cells(self) -> int:
        """S, number of sequences; a cell in two views counts twice."""
        return len(self.cell)

    @property
    def num_tokens(self) -> int:
        """T."""
        return len(self.tokens)

    @property
    def lengths(self) -> Tensor:
        """(S,) int64, tokens of each cell."""
        return self.offsets.diff()

    @property
    def row_of_token(self) -> Tensor:
        """(T,) int64, the row of the cell each token belongs to."""
        rows = torch.arange(self.num_cells, device=self.tokens.device)
        return rows.repeat_interleave(self.lengths, output_size=self.num_tokens)

    def genes(self, special_tokens: Sequence[int]) -> Tensor:
        """(T,) bool, which tokens are genes: not the first of a cell, and none of the special ones."""
        is_gene = ~torch.isin(self.tokens, self.tokens.new_tensor(list(special_tokens)))
        is_gene[self.offsets[:-1]] = False
        return is_gene

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The same on another device."""

        def moved(value: Tensor | Hidden | None) -> Any:
            if isinstance(value, Hidden):
                return Hidden(*(tensor.to(device, non_blocking=non_blocking) for tensor in value))
            return None if value is None else value.to(device, non_blocking=non_blocking)

        return replace(self, **{field.name: moved(getattr(self, field.name)) for field in fields(self)})

    def doubled(self) -> Self:
        """Every cell twice, as rows s and S + s: two views for a network that is random."""
        t, s = self.num_tokens, self.num_cells

        def hidden_twice(hidden: Hidden | None, shift: int) -> Hidden | None:
            return hidden and Hidden(torch.cat([hidden.at, hidden.at + shift]), hidden.truth.repeat(2))

        return replace(
            self,
            tokens=self.tokens.repeat(2),
            offsets=torch.cat([self.offsets, self.offsets[1:] + t]),
            cell=self.cell.repeat(2),
            values=None if self.values is None else self.values.repeat(2),
            partner=None if self.partner is None else torch.cat([self.partner, self.partner + s]),
            hidden_genes=hidden_twice(self.hidden_genes, t),
            hidden_values=hidden_twice(self.hidden_values, t),
            removed_genes=hidden_twice(self.removed_genes, s),
        )
