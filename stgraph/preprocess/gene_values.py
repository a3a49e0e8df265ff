"""Counts to comparable values of genes, dense for a block of cells at a time."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray

from stgraph import _keys
from stgraph.errors import InputError, StgraphWarning
from stgraph.preprocess.genes import align_counts, shared_genes
from stgraph.preprocess.named_arrays import bytes_to_genes, check_fit, check_names, genes_to_bytes

_BLOCK = 2**22
"""Values made at once."""

_LEAST_DEPTH = 0.02
"""Depth below which a cell is not scaled up any further, as a share of the median."""


class GeneValues(Protocol):
    """Values of genes that can be compared between cells of any slice.

    What is needed of a slice beside its own counts is learnt from the training slices, so
    that the values of a cell do not depend on which other cells are there.

    Attributes
    ----------
    genes
        G genes, once fitted: those all training slices share.
    """

    genes: list[str]

    def fit(self, slices: Sequence[AnnData]) -> Self:
        """Learn from slices; labels are never looked at."""
        ...

    def blocks(self, adata: AnnData, columns: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
        """Values of some of the genes, for all cells in turn.

        Parameters
        ----------
        adata
            One canonical slice.
        columns
            (g,) which of ``genes``.

        Yields
        ------
        ndarray
            (n, g) values of the next n cells; NaN in the column of a gene the slice lacks.
        """
        ...

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything learned, as named arrays."""
        ...

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> Self:
        """Take over what `state` gave."""
        ...


@dataclass
class LogValues:
    """``log1p`` of counts at the median depth of the training cells.

    Parameters
    ----------
    min_shared_genes
        Fewest genes that slices may share.

    Attributes
    ----------
    genes
        Genes the depth is counted over.

    Examples
    --------
    >>> import numpy as np
    >>> import stgraph
    >>> from stgraph.preprocess.gene_values import LogValues
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]
    >>> next(LogValues().fit([tissue]).blocks(tissue, np.arange(3))).shape
    (200, 3)
    """

    min_shared_genes: int = 15
    genes: list[str] = field(default_factory=list, init=False, repr=False)
    _share: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), init=False, repr=False, compare=False)
    _target: float = field(default=0.0, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.min_shared_genes < 1:
            raise InputError("LogValues needs a positive min_shared_genes.")

    def fit(self, slices: Sequence[AnnData]) -> Self:
        """Learn the median depth, and the share each gene has of it."""
        self.genes = shared_genes(slices, min_genes=self.min_shared_genes)
        self._share, depth = gene_shares(slices, self.genes)
        self._target = float(np.median(depth[depth > 0]))
        return self

    def blocks(self, adata: AnnData, columns: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
        """Values of some of the genes; see `GeneValues`."""
        counts, present, depth = aligned(adata, self.genes, self.min_shared_genes)
        # A partial panel is held to its share of the depth.
        target = self._target * float(self._share[present].sum())
        # A cell with next to no counts would otherwise be blown up to the depth of the others.
        factor = target / np.maximum(depth, max(_LEAST_DEPTH * target, 1e-300))
        for rows, block in dense_blocks(counts, present, columns):
            yield np.log1p(block * factor[rows, None].astype(np.float32), out=block)

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything learned, as named arrays; gene names as UTF-8 bytes."""
        return {"genes": genes_to_bytes(self.genes), "share": self._share, "target": np.array([self._target])}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> Self:
        """Take over what `state` gave.

        Raises
        ------
        InputError
            If an array is missing or of the wrong shape.
        """
        check_names(self, state, {"genes", "share", "target"})
        genes = bytes_to_genes(state["genes"])
        check_fit(self, state["share"].shape == (len(genes),) and state["target"].shape == (1,))
        self.genes, self._share, self._target = genes, state["share"], float(state["target"][0])
        return self


def aligned(
    adata: AnnData, genes: Sequence[str], min_shared_genes: int
) -> tuple[sp.csr_matrix, NDArray[np.bool_], NDArray[np.float64]]:
    """Counts of the given genes, which of them there are, and the depth of each cell over them.

    Parameters
    ----------
    adata
        One canonical slice.
    genes
        G genes; none if nothing was fitted.
    min_shared_genes
        Fewest of them the slice must have.

    Returns
    -------
    counts : csr_matrix
        (N, G), as `align_counts` gives them.
    present : ndarray
        (G,) bool.
    depth : ndarray
        (N,).

    Raises
    ------
    InputError
        If nothing was fitted, or the slice has too few of the genes.
    """
    if not genes:
        raise InputError("The encoder was not fitted: call fit(slices) first.")
    counts, present = align_counts(adata, genes)
    if present.sum() < min(min_shared_genes, len(genes)):
        raise InputError(
            f"{slice_name(adata)} has only {int(present.sum())} of the encoder's {len(genes)} genes "
            f"(its first is '{adata.var_names[0]}', the encoder's '{genes[0]}'): "
            "use the same kind of gene name, or another encoder."
        )
    return counts, present, np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()


def dense_blocks(
    counts: sp.csr_matrix, present: NDArray[np.bool_], columns: NDArray[np.int64]
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Rows and dense counts of blocks of cells; NaN where a gene is not present."""
    kept = counts if len(columns) == counts.shape[1] and (np.diff(columns) == 1).all() else counts[:, columns]
    step = max(_BLOCK // max(len(columns), 1), 1)
    for start in range(0, counts.shape[0], step):
        rows = slice(start, min(start + step, counts.shape[0]))
        block = kept[rows].astype(np.float32).toarray()
        block[:, ~present[columns]] = np.nan
        yield rows, block


def gene_shares(slices: Sequence[AnnData], genes: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share (G,) of each gene in all counts, and the depth (N,) of all cells.

    Raises
    ------
    InputError
        If there are no counts.
    """
    total, depths = np.zeros(len(genes)), []
    for adata in slices:
        counts = align_counts(adata, genes)[0]
        total += np.asarray(counts.sum(axis=0), dtype=np.float64).ravel()
        depths.append(np.asarray(counts.sum(axis=1), dtype=np.float64).ravel())
    if not total.any():
        raise InputError("The genes the slices share have no counts at all.")
    return total / total.sum(), np.concatenate(depths)


def moments(
    values: GeneValues, slices: Sequence[AnnData], columns: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean of each gene over all cells, and its variance within slices, pooled: a shift between slices is no signal.

    Parameters
    ----------
    values
        Fitted.
    slices
        What to look at; they have all genes.
    columns
        (g,) which genes.

    Returns
    -------
    mean, variance : ndarray
        (g,) each.
    """
    n, mean, spread = 0, np.zeros(len(columns)), np.zeros(len(columns))
    for adata in slices:
        first, second = np.zeros(len(columns)), np.zeros(len(columns))
        for block in values.blocks(adata, columns):
            first += block.sum(axis=0, dtype=np.float64)
            second += np.einsum("ng,ng->g", block, block, dtype=np.float64)
        mean += first
        spread += second - first**2 / adata.n_obs
        n += adata.n_obs
    variance = spread / n
    # What is left of a constant gene is rounding.
    variance[variance <= np.maximum(1e-7 * (mean / n) ** 2, 1e-9)] = 0.0
    return mean / n, variance


def most_variable(variance: NDArray[np.float64], n_genes: int) -> NDArray[np.int64]:
    """Columns of the genes of largest variance, in increasing order.

    Raises
    ------
    InputError
        If no gene varies.
    """
    top = np.sort(np.argsort(-variance, kind="stable")[:n_genes])
    top = top[variance[top] > 0]
    if len(top) == 0:
        raise InputError("No gene varies between cells, so there is nothing to learn from.")
    return top


def centred(values: NDArray[np.float32], mean: NDArray[np.float64]) -> NDArray[np.float32]:
    """The values minus the mean of each gene, in place; genes that are not there count as average."""
    values -= mean.astype(np.float32)
    values[np.isnan(values)] = 0.0
    return values


def warn_of_missing(adata: AnnData, genes: Sequence[str]) -> None:
    """Say how many of the genes that are read a slice lacks, as a `StgraphWarning`."""
    missing = len(genes) - int(adata.var_names.isin(genes).sum())
    if missing == len(genes):
        raise InputError(f"{slice_name(adata)} has none of the {len(genes)} genes the encoder reads.")
    if missing:
        warnings.warn(
            f"{slice_name(adata)} lacks {missing} of the {len(genes)} genes the encoder reads; they count as average.",
            StgraphWarning,
            stacklevel=3,
        )


def slice_name(adata: AnnData) -> str:
    """What to call a slice in a message."""
    return str(adata.obs[_keys.SLICE].iloc[0]) if _keys.SLICE in adata.obs and adata.n_obs else "The slice"
