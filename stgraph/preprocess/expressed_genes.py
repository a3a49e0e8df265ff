"""The expressed genes of each cell with their counts, in the order of a list."""

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from stgraph._chunks import in_chunks
from stgraph._compiled import compiled
from stgraph.errors import InputError
from stgraph.preprocess.check_counts import check_counts
from stgraph.preprocess.count_matrix import count_matrix
from stgraph.preprocess.gene_alignment import GeneAlignment
from stgraph.preprocess.gene_list import GeneList
from stgraph.preprocess.gene_values import slice_name
from stgraph.preprocess.ragged_tokens import RaggedTokens

_LEAST_ROWS = 2000
"""Rows for which a thread is worth its start."""


def expressed_genes(adata: AnnData, genes: GeneList, *, alignment: GeneAlignment | None = None) -> RaggedTokens:
    """The genes with counts of each cell, as AIDO.Tissue reads them; straight from the sparse matrix.

    Parameters
    ----------
    adata
        Raw counts in ``X``.
    genes
        The vocabulary.
    alignment
        What ``genes.align_slice(adata)`` gave, where it was asked for anyway; by default it is asked for here, with
        its warnings.

    Returns
    -------
    RaggedTokens
        N cells: numbers of genes in rising order, and their raw counts as values. Columns of one gene are summed,
        columns that are not in the list are left out. A cell without counts has no tokens. There are no class tokens
        and no depth tokens: `stgraph.data.neighborhood_sequences.NeighborhoodSequences` adds these.

    Raises
    ------
    InputError
        If ``X`` holds no raw counts, or too many of its genes are not in the list.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> from stgraph.preprocess.expressed_genes import expressed_genes
    >>> from stgraph.preprocess.gene_list import GeneList
    >>> adata = AnnData(np.array([[2, 0, 1], [0, 0, 4]], dtype=np.int32))
    >>> adata.var_names = ["SNAP25", "PLP1", "MBP"]
    >>> cells = expressed_genes(adata, GeneList(["MBP", "PLP1", "SNAP25"]))
    >>> cells[0], cells[1], cells.values
    (array([0, 2], dtype=int32), array([0], dtype=int32), array([1., 2., 4.], dtype=float32))
    """
    name = slice_name(adata)
    matrix = count_matrix(adata.X, list(adata.var_names), name=name)
    check_counts(matrix, name)
    found = genes.align_slice(adata) if alignment is None else alignment
    if len(found.gene_of_column) != matrix.shape[1] or found.num_genes != genes.num_genes:
        raise InputError(
            f"{name} has {matrix.shape[1]} genes and the list {genes.num_genes}, but the alignment is of "
            f"{len(found.gene_of_column)} and {found.num_genes}: align this slice with this list."
        )
    panel = found.panel
    slot_of = np.where(found.gene_of_column >= 0, np.searchsorted(panel, found.gene_of_column), -1)
    rows = matrix.shape[0]
    arrays = matrix.indptr.astype(np.int64), matrix.indices, matrix.data, slot_of, panel.astype(np.int32)
    lengths = np.empty(rows, dtype=np.int64)
    in_chunks(_count, rows, *arrays, lengths, least=_LEAST_ROWS)
    indptr: NDArray[np.int64] = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    tokens, values = np.empty(indptr[-1], dtype=np.int32), np.empty(indptr[-1], dtype=np.float32)
    in_chunks(_write, rows, *arrays, indptr, tokens, values, least=_LEAST_ROWS)
    return RaggedTokens(tokens, indptr, values)


@compiled
def _count(start, stop, indptr, indices, data, slot_of, panel, lengths):  # type: ignore[no-untyped-def]
    last = np.full(len(panel), -1, dtype=np.int64)
    for row in range(start, stop):
        size = 0
        for position in range(indptr[row], indptr[row + 1]):
            slot = slot_of[indices[position]]
            if slot >= 0 and data[position] > 0 and last[slot] != row:
                last[slot] = row
                size += 1
        lengths[row] = size


@compiled
def _write(start, stop, indptr, indices, data, slot_of, panel, offsets, tokens, values):  # type: ignore[no-untyped-def]
    sums = np.zeros(len(panel))
    touched = np.empty(len(panel), dtype=np.int64)
    for row in range(start, stop):
        size, rising = 0, True
        for position in range(indptr[row], indptr[row + 1]):
            slot = slot_of[indices[position]]
            if slot < 0 or not data[position] > 0:
                continue
            if sums[slot] == 0:
                rising &= size == 0 or touched[size - 1] < slot
                touched[size] = slot
                size += 1
            sums[slot] += data[position]
        # Columns that stand in the order of the list, as most do, are in order already.
        ordered = touched[:size] if rising else np.sort(touched[:size])
        write = offsets[row]
        for slot in ordered:
            tokens[write] = panel[slot]
            values[write] = sums[slot]
            sums[slot] = 0.0
            write += 1
