"""Token sequences of cells, end to end without padding."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from stgraph.errors import InputError


@dataclass(frozen=True, eq=False)
class RaggedTokens:
    """Sequences of different length, one for each cell, in two arrays.

    Parameters
    ----------
    tokens
        (T,) int32, the sequences end to end.
    indptr
        (N + 1,) int64 from 0 to T: sequence i is ``tokens[indptr[i]:indptr[i + 1]]``.
    values
        (T,) float32, the value of each token if asked for, as the tokenizer says.

    Raises
    ------
    InputError
        If the arrays do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.preprocess.ragged_tokens import RaggedTokens
    >>> cells = RaggedTokens(np.array([9, 4, 9, 5, 6], dtype=np.int32), np.array([0, 2, 5]))
    >>> len(cells), cells.lengths, cells[1]
    (2, array([2, 3]), array([9, 5, 6], dtype=int32))
    >>> cells.take(np.array([1, 1, 0])).indptr
    array([0, 3, 6, 8])
    """

    tokens: NDArray[np.int32]
    indptr: NDArray[np.int64]
    values: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        ends = self.indptr
        fits = ends.ndim == self.tokens.ndim == 1 and len(ends) > 0 and ends[0] == 0 and ends[-1] == len(self.tokens)
        if not fits or (np.diff(ends) < 0).any():
            raise InputError("The indptr of RaggedTokens must rise from 0 to the number of tokens.")
        if self.values is not None and self.values.shape != self.tokens.shape:
            raise InputError(f"RaggedTokens has {len(self.tokens)} tokens, but values of shape {self.values.shape}.")

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __getitem__(self, row: int) -> NDArray[np.int32]:
        """Tokens of one cell; a view. Negative rows count from the end."""
        if not -len(self) <= row < len(self):
            raise IndexError(f"cell {row} of {len(self)}")
        row %= len(self)
        return self.tokens[self.indptr[row] : self.indptr[row + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) number of tokens of each cell."""
        return np.diff(self.indptr)

    def take(self, rows: NDArray[np.integer]) -> Self:
        """The sequences of some cells.

        Parameters
        ----------
        rows
            (n,) cells, in any order and perhaps repeated; or (N,) bool.

        Returns
        -------
        RaggedTokens
            A copy.
        """
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows.astype(np.int64)
        begin, lengths = self.indptr[:-1][rows], self.lengths[rows]
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        # Within a sequence the position counts up by one; between two it jumps.
        where = np.arange(indptr[-1]) + np.repeat(begin - indptr[:-1], lengths)
        return type(self)(self.tokens[where], indptr, None if self.values is None else self.values[where])

    @classmethod
    def joined(cls, parts: Sequence["RaggedTokens"]) -> Self:
        """The cells of several slices, one slice after the other.

        Parameters
        ----------
        parts
            At least one; all with values, or none.

        Returns
        -------
        RaggedTokens
            A copy.

        Raises
        ------
        InputError
            If there is none, or only some have values.
        """
        values = [part.values for part in parts if part.values is not None]
        if not parts or len(values) not in (0, len(parts)):
            raise InputError("RaggedTokens can be joined if there is at least one, and all or none have values.")
        lengths = np.concatenate([part.lengths for part in parts])
        return cls(
            np.concatenate([part.tokens for part in parts]),
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            np.concatenate(values) if values else None,
        )
