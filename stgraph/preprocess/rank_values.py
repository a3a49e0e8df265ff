"""The genes of a cell as a sequence of tokens, from the highest value to the lowest."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray

from stgraph._chunks import in_chunks
from stgraph.errors import InputError, StgraphWarning
from stgraph.preprocess.check_counts import look_normalised
from stgraph.preprocess.count_matrix import count_matrix
from stgraph.preprocess.gene_values import slice_name
from stgraph.preprocess.gene_vocabulary import GeneVocabulary
from stgraph.preprocess.orthologs import Orthologs
from stgraph.preprocess.ragged_tokens import RaggedTokens
from stgraph.preprocess.rank_kernels import count_tokens, write_tokens
from stgraph.preprocess.slice_genes import slice_genes

TARGET = 10_000.0
"""What the counts of a cell sum to before they are divided by the medians."""

_LEAST_ROWS = 2000
"""Rows for which a thread is worth its start."""


@dataclass(frozen=True)
class RankValueTokenizer:
    """Rank-value encoding [1]_: the genes of a cell by their count over their median in a corpus.

    The value of a gene is its count, divided by the sum of **all** counts of the cell (also of genes
    without a token), times 10,000, divided by the median of the gene. Genes without counts are left out, the others
    are sorted from the highest value to the lowest, and the sequence is cut.

    Where values are equal, as most are in small panels, the published tokenizer leaves the order
    to a sort that is not stable. Here ties stand in the order of the vocabulary (the lower token first), or,
    with ``ties="random"``, in an order drawn for each cell, which
    depends on ``random_state``, the row, and the place of a gene among the tokens of the slice: random ties of a cell
    are others in a subset of its slice, or if its genes are others, so that its embedding does depend on these.

    Parameters
    ----------
    vocabulary
        Tokens, medians and names.
    max_length
        Most tokens of a cell, the class token included.
    cls
        Whether the class token stands before the genes.
    ties
        Order of genes with equal values.
    collisions
        What becomes of several columns of a slice that have one token, as mouse genes with one human ortholog:
        their counts are summed first, or each gives a token, so that the token occurs several times
        ("keep", as published).
    random_state
        Seed of random ties.

    References
    ----------
    .. [1] Theodoris, C. V. et al. Transfer learning enables predictions in network biology. Nature 618,
       616-624 (2023).

    Examples
    --------
    >>> import numpy as np
    >>> import scipy.sparse as sp
    >>> from stgraph.preprocess.gene_vocabulary import GeneVocabulary
    >>> from stgraph.preprocess.rank_values import RankValueTokenizer
    >>> vocabulary = GeneVocabulary.of_medians({"ACTB": 10.0, "MBP": 2.0, "PLP1": 1.0})
    >>> counts = sp.csr_matrix([[20, 6, 3], [5, 0, 1], [0, 0, 0]])
    >>> cells = RankValueTokenizer(vocabulary).encode(counts, ["ACTB", "MBP", "PLP1"])
    >>> [cells[i].tolist() for i in range(3)]
    [[5, 3, 4, 2], [5, 4, 2], [5]]
    """

    vocabulary: GeneVocabulary = field(repr=False)
    max_length: int = 2048
    cls: bool = True
    ties: Literal["vocabulary", "random"] = "vocabulary"
    collisions: Literal["sum", "keep"] = "sum"
    random_state: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.max_length, int) or self.max_length < 1 + self.cls:
            raise InputError(f"RankValueTokenizer needs room for a gene: max_length {self.max_length} is too short.")
        for name, choices in (("ties", ("vocabulary", "random")), ("collisions", ("sum", "keep"))):
            if getattr(self, name) not in choices:
                raise InputError(f"RankValueTokenizer knows {name} {choices}, not {getattr(self, name)!r}.")
        if not isinstance(self.random_state, int) or self.random_state < 0:
            raise InputError(f"RankValueTokenizer needs a random_state of 0 or more, not {self.random_state!r}.")

    def encode(
        self,
        counts: Any,
        genes: Sequence[str],
        *,
        with_values: bool = False,
        first_row: int = 0,
        name: str = "The slice",
    ) -> RaggedTokens:
        """Token sequences of cells.

        Parameters
        ----------
        counts
            (N, G) raw counts, whole numbers or not; CSR, or what becomes one. No dense matrix is made.
        genes
            G names of the columns, as `GeneVocabulary` knows them.
        with_values
            Give also the value of each token: its count over all counts of the cell, times 10,000, not divided by
            the median; 0 for the class token.
        first_row
            Number of the first row in its slice, if a slice is encoded some rows at a time; for random ties.
        name
            Of the slice, for the messages.

        Returns
        -------
        RaggedTokens
            N sequences; that of a cell without counts holds the class token alone, or nothing. A
            `StgraphWarning` says how many genes with counts have no token, and how many share one.

        Raises
        ------
        InputError
            If the counts are negative or not finite, or no gene is in the vocabulary.
        """
        matrix = count_matrix(counts, genes, name=name)
        if look_normalised(matrix):
            warnings.warn(
                f"{name} has values in X that look like logarithms (most are fractions, and none is above 20), but raw "
                "counts are needed: of others, depths and the order of genes are wrong.",
                StgraphWarning,
                stacklevel=3,
            )
        slot_of, token_of, median_of = self._slots(matrix, genes, name)
        rows, room = matrix.shape[0], self.max_length - self.cls
        lengths = np.empty(rows, dtype=np.int64)
        arrays = matrix.indptr.astype(np.int64), matrix.indices, matrix.data, slot_of
        in_chunks(count_tokens, rows, *arrays, len(token_of), room, lengths, least=_LEAST_ROWS)
        indptr = np.concatenate([[0], np.cumsum(lengths + self.cls)]).astype(np.int64)
        tokens = np.empty(indptr[-1], dtype=np.int32)
        values = np.zeros(indptr[-1] if with_values else 0, dtype=np.float32)
        seed = np.uint64(self.random_state + 1 if self.ties == "random" else 0)
        cls = self.vocabulary.cls if self.cls else -1
        rest = TARGET, seed, first_row, cls, indptr, tokens, values
        in_chunks(write_tokens, rows, *arrays, token_of, median_of, *rest, least=_LEAST_ROWS)
        return RaggedTokens(tokens, indptr, values if with_values else None)

    def encode_slice(
        self, adata: AnnData, *, orthologs: Orthologs | None = None, with_values: bool = False
    ) -> RaggedTokens:
        """Token sequences of the cells of a slice.

        Parameters
        ----------
        adata
            Raw counts in ``X``. Which of its gene ids and names are taken says
            `stgraph.preprocess.slice_genes.slice_genes`.
        orthologs
            For a slice of another species than the vocabulary.
        with_values
            As in `encode`.

        Returns
        -------
        RaggedTokens
            As of `encode`.

        Raises
        ------
        InputError
            As of `encode`.
        """
        genes = slice_genes(adata, self.vocabulary, orthologs)
        return self.encode(adata.X, genes, with_values=with_values, name=slice_name(adata))

    def _slots(
        self, matrix: sp.csr_matrix, genes: Sequence[str], name: str
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
        """Slot of each column, and token and median of each slot; slots are in the order of tokens."""
        counted = None
        if (self.vocabulary.find(genes) < 0).any():  # a pass over all counts, for a message only
            counted = np.bincount(matrix.indices[matrix.data > 0], minlength=len(genes)) > 0
        token = self.vocabulary.resolve(genes, counted=counted, name=name)
        median = np.where(token >= 0, self.vocabulary.median_of_token[token], np.nan)
        unknown = int((np.isnan(median) & (token >= 0)).sum())
        if unknown:
            warnings.warn(
                f"{name} has {unknown} genes that have a token and no median; they are left out.",
                StgraphWarning,
                stacklevel=3,
            )
        used = np.flatnonzero(~np.isnan(median))
        if not len(used):
            raise InputError(f"{name} has no gene with a median in the vocabulary, so none can be ranked.")
        distinct, slot, columns = np.unique(token[used], return_inverse=True, return_counts=True)
        if len(distinct) < len(used):
            warnings.warn(
                f"{name} has {columns[columns > 1].sum()} genes that share {(columns > 1).sum()} tokens; "
                + ("their counts are summed." if self.collisions == "sum" else "each gives the token once."),
                StgraphWarning,
                stacklevel=3,
            )
        if self.collisions == "keep":
            used = used[np.argsort(token[used], kind="stable")]
            slot = np.arange(len(used))
            distinct = token[used]
        slot_of = np.full(len(token), -1, dtype=np.int32)
        slot_of[used] = slot
        return slot_of, distinct.astype(np.int32), self.vocabulary.median_of_token[distinct]
