"""The light cell encoder: normalised log counts, variable genes, principal components."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, svds

from stgraph import _keys
from stgraph.errors import InputError, StgraphWarning
from stgraph.preprocess.genes import align_counts, shared_genes

_LEAST_DEPTH = 0.02
"""Depth below which a cell is not scaled up any further, as a share of the median."""


class CellEncoder(Protocol):
    """Turns the counts of a cell into its features, without looking at its neighbours.

    Attributes
    ----------
    genes
        Names of the genes it reads, once fitted.
    """

    genes: list[str]

    def fit(self, slices: Sequence[AnnData]) -> Self:
        """Learn from slices; labels are never looked at."""
        ...

    def transform(self, adata: AnnData) -> NDArray[np.float32]:
        """Features (N, C) of one slice."""
        ...

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything learned, as named arrays."""
        ...

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> Self:
        """Take over what `state` gave."""
        ...


@dataclass
class LogPCA:
    """Principal components of log counts: the default encoder of a cell.

    Counts are divided by the depth of the cell and multiplied by the median depth of
    the training cells, ``log1p`` is taken, the genes of largest variance are kept, and
    the components of all training slices together are found after centring each slice.
    Genes are not scaled, which would raise the noise of the rare ones.

    Parameters
    ----------
    n_top_genes
        Genes kept, by variance of their log counts (not by dispersion, which picks
        noise in sparse tissue).
    n_components
        C, number of components; fewer if there are fewer genes.
    whiten
        Scale each component to unit variance over the training cells.
    min_shared_genes
        Fewest genes that slices may share.
    random_state
        Seed of the solver's first vector.

    Attributes
    ----------
    genes
        Genes the depth is counted over: those all training slices share.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.preprocess.encoder import LogPCA
    >>> slices = stgraph.synthetic_tissue(n_cells=200, n_genes=60, n_slices=2)
    >>> LogPCA(n_components=8).fit(slices).transform(slices[0]).shape
    (200, 8)
    """

    n_top_genes: int = 3000
    n_components: int = 20
    whiten: bool = True
    min_shared_genes: int = 15
    random_state: int = 0
    genes: list[str] = field(default_factory=list, init=False, repr=False)
    _arrays: dict[str, NDArray[Any]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if min(self.n_top_genes, self.n_components, self.min_shared_genes) < 1:
            raise InputError("LogPCA needs positive n_top_genes, n_components and min_shared_genes.")

    def fit(self, slices: Sequence[AnnData]) -> Self:
        """Find genes and components.

        Parameters
        ----------
        slices
            Canonical slices, each one section.

        Returns
        -------
        LogPCA
            Itself.

        Raises
        ------
        InputError
            If the slices share too few genes, or their counts do not vary.
        """
        self.genes = shared_genes(slices, min_genes=self.min_shared_genes)
        counts = [align_counts(adata, self.genes)[0] for adata in slices]
        depth = np.concatenate([_depth(c) for c in counts])
        if not depth.any():
            raise InputError("The genes the slices share have no counts at all.")
        total = sum(np.asarray(c.sum(axis=0)).ravel().astype(np.float64) for c in counts)
        arrays: dict[str, NDArray[Any]] = {
            "target_depth": np.array([np.median(depth[depth > 0])]),
            "gene_share": np.asarray(total / np.sum(total)),
        }
        self._arrays = arrays
        logs = [self._log(c, np.ones(len(self.genes), dtype=bool)) for c in counts]
        variance = _pooled_variance(logs)
        top = np.sort(np.argsort(-variance, kind="stable")[: self.n_top_genes])
        top = top[variance[top] > 1e-12]  # less is rounding
        if len(top) == 0:
            raise InputError("No gene varies between cells, so there is nothing to learn from.")
        arrays["top"] = top
        arrays["components"], arrays["scale"] = self._components([log[:, top] for log in logs])
        return self

    def transform(self, adata: AnnData) -> NDArray[np.float32]:
        """Features of one slice.

        Parameters
        ----------
        adata
            One canonical slice. Genes it lacks count as average, and a
            `StgraphWarning` says how many they are.

        Returns
        -------
        ndarray
            (N, C) float32.

        Raises
        ------
        InputError
            If the slice has too few of the encoder's genes.
        """
        if not self._arrays:
            raise InputError("The cell encoder was not fitted: call fit(slices) first.")
        counts, present = align_counts(adata, self.genes)
        top = self._arrays["top"]
        self._check_panel(adata, present, present[top])
        log = self._log(counts, present)[:, top]
        mean = np.asarray(log.mean(axis=0)).ravel()
        components = self._arrays["components"] * present[top]
        x = log @ components.T - mean @ components.T
        return np.asarray(x / self._arrays["scale"] if self.whiten else x, dtype=np.float32)

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything learned, as named arrays; gene names as UTF-8 bytes."""
        names = np.frombuffer("\n".join(self.genes).encode(), dtype=np.uint8).copy()
        return {"genes": names, **self._arrays}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> Self:
        """Take over what `state` gave.

        Raises
        ------
        InputError
            If an array is missing or of the wrong shape.
        """
        needed = {"genes", "target_depth", "gene_share", "top", "components", "scale"}
        if needed != set(state):
            raise InputError(f"The state of LogPCA must hold {sorted(needed)}, not {sorted(state)}.")
        genes = state["genes"].tobytes().decode().split("\n")
        arrays = {name: array for name, array in state.items() if name != "genes"}
        c = len(arrays["scale"])
        if arrays["components"].shape != (c, len(arrays["top"])) or len(arrays["gene_share"]) != len(genes):
            raise InputError("The state of LogPCA has arrays of shapes that do not fit together.")
        self.genes, self._arrays = genes, arrays
        return self

    def _log(self, counts: sp.csr_matrix, present: NDArray[np.bool_]) -> sp.csr_matrix:
        """log1p of counts at the target depth; a partial panel is held to its share of the depth."""
        target = float(self._arrays["target_depth"][0]) * float(self._arrays["gene_share"][present].sum())
        depth = _depth(counts)
        # A cell with next to no counts would otherwise be blown up to the depth of the others.
        factor = target / np.maximum(depth, _LEAST_DEPTH * target)
        log = counts.astype(np.float64)
        log.data *= np.repeat(factor, np.diff(log.indptr))
        np.log1p(log.data, out=log.data)
        return log

    def _components(self, logs: Sequence[sp.csr_matrix]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        n, g = sum(log.shape[0] for log in logs), logs[0].shape[1]
        c = min(self.n_components, g, n - 1)
        means = np.stack([np.asarray(log.mean(axis=0)).ravel() for log in logs])
        start = np.random.default_rng(self.random_state).normal(size=min(n, g))
        if c >= min(n, g) - 1 or g <= 64:
            centred = np.concatenate([log.toarray() - mean for log, mean in zip(logs, means, strict=True)])
            _, singular, components = np.linalg.svd(centred, full_matrices=False)
            singular, components = singular[:c], components[:c]
        else:
            _, singular, components = svds(_centred(logs, means), k=c, v0=start)
            singular, components = singular[::-1], components[::-1]
        solid = singular > singular[0] * 1e-6
        singular, components = singular[solid], components[solid]
        # The sign of a component is arbitrary; fixed so that its largest loading is positive.
        sign = np.sign(components[np.arange(len(components)), np.abs(components).argmax(axis=1)])
        return components * sign[:, None], singular / np.sqrt(n)

    def _check_panel(self, adata: AnnData, present: NDArray[np.bool_], top: NDArray[np.bool_]) -> None:
        name = str(adata.obs[_keys.SLICE].iloc[0]) if _keys.SLICE in adata.obs else "The slice"
        if present.sum() < min(self.min_shared_genes, len(self.genes)) or not top.any():
            raise InputError(
                f"{name} has only {int(present.sum())} of the model's {len(self.genes)} genes "
                f"(its first is '{adata.var_names[0]}', the model's '{self.genes[0]}'): "
                "use the same kind of gene name, or another model."
            )
        if not top.all():
            warnings.warn(
                f"{name} lacks {int((~top).sum())} of the {len(top)} genes the model reads; they count as average.",
                StgraphWarning,
                stacklevel=3,
            )


def _depth(counts: sp.csr_matrix) -> NDArray[np.float64]:
    return np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()


def _pooled_variance(logs: Sequence[sp.csr_matrix]) -> NDArray[np.float64]:
    """Variance of each gene within slices, pooled: a shift between slices is no signal."""
    total = np.zeros(logs[0].shape[1])
    for log in logs:
        mean = np.asarray(log.mean(axis=0)).ravel()
        total += np.asarray(log.multiply(log).sum(axis=0)).ravel() - log.shape[0] * mean**2
    pooled: NDArray[np.float64] = total / sum(log.shape[0] for log in logs)
    return pooled


def _centred(logs: Sequence[sp.csr_matrix], means: NDArray[np.float64]) -> LinearOperator:
    """All slices stacked, each minus its mean, without ever making it dense."""
    stacked = sp.vstack(logs, format="csr")
    transposed = stacked.T.tocsr()
    owner = np.repeat(np.arange(len(logs)), [log.shape[0] for log in logs])
    indicator = sp.csr_matrix((np.ones(len(owner)), (np.arange(len(owner)), owner)))

    def forward(v: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(stacked @ v - indicator @ (means @ v))

    def backward(u: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(transposed @ u - means.T @ (indicator.T @ u))

    return LinearOperator(
        stacked.shape, matvec=forward, rmatvec=backward, matmat=forward, rmatmat=backward, dtype=np.float64
    )
