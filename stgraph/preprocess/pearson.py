"""Analytic Pearson residuals, and their principal components."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from stgraph.errors import InputError
from stgraph.preprocess.gene_values import (
    aligned,
    centred,
    dense_blocks,
    gene_shares,
    moments,
    most_variable,
    warn_of_missing,
)
from stgraph.preprocess.genes import shared_genes
from stgraph.preprocess.streamed_pca import principal_axes


@dataclass
class PearsonResiduals:
    """How far counts are from what depth alone predicts, in standard deviations [1]_.

    The expected count is the depth of the cell times the share of the gene in the
    training slices, the variance that of a negative binomial. Of a slice with missing
    genes, depth and shares are counted over those it has.

    Parameters
    ----------
    theta
        Inverse overdispersion.
    min_shared_genes
        Fewest genes that slices may share.

    Attributes
    ----------
    genes
        Genes the depth is counted over.

    References
    ----------
    .. [1] Lause, J., Berens, P. & Kobak, D. Analytic Pearson residuals for normalization
       of single-cell RNA-seq UMI data. Genome Biology 22, 258 (2021).

    Examples
    --------
    >>> import numpy as np
    >>> import stgraph
    >>> from stgraph.preprocess.pearson import PearsonResiduals
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]
    >>> next(PearsonResiduals().fit([tissue]).blocks(tissue, np.arange(3))).shape
    (200, 3)
    """

    theta: float = 100.0
    min_shared_genes: int = 15
    genes: list[str] = field(default_factory=list, init=False, repr=False)
    _share: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), init=False, repr=False, compare=False)
    _clip: float = field(default=0.0, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.theta > 0 or self.min_shared_genes < 1:
            raise InputError("PearsonResiduals needs a positive theta and min_shared_genes.")

    def fit(self, slices: Sequence[AnnData]) -> Self:
        """Learn the share of each gene in all counts."""
        self.genes = shared_genes(slices, min_genes=self.min_shared_genes)
        self._share, depth = gene_shares(slices, self.genes)
        self._clip = float(np.sqrt(len(depth)))
        return self

    def blocks(self, adata: AnnData, columns: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
        """Residuals of some of the genes; see `stgraph.preprocess.gene_values.GeneValues`."""
        counts, present, depth = aligned(adata, self.genes, self.min_shared_genes)
        share = (self._share / max(self._share[present].sum(), 1e-300))[columns].astype(np.float32)
        for rows, observed in dense_blocks(counts, present, columns):
            expected = depth[rows, None].astype(np.float32) * share
            residual = np.subtract(observed, expected, out=observed)
            variance = expected + expected**2 / np.float32(self.theta)
            # A cell without counts, or a gene without any in training, is as expected.
            residual /= np.sqrt(variance, where=variance > 0, out=np.full_like(variance, np.inf))
            yield np.clip(residual, -self._clip, self._clip, out=residual)


@dataclass
class PearsonPCA:
    """Principal components of Pearson residuals: the strongest simple encoder of a cell type.

    Genes are kept by the variance of their residuals, and centred by their mean in the
    training slices, so that the features of a cell depend on no other cell of its slice.
    Cells are looked at in blocks: memory does not grow with their number.

    Parameters
    ----------
    n_top_genes
        Genes kept.
    n_components
        C, number of components; fewer if there are fewer genes.
    theta, min_shared_genes
        As in `PearsonResiduals`.

    Attributes
    ----------
    genes
        Genes the depth is counted over: those all training slices share.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.preprocess.pearson import PearsonPCA
    >>> slices = stgraph.synthetic_tissue(n_cells=200, n_genes=60, n_slices=2)
    >>> PearsonPCA(n_components=8).fit(slices).transform(slices[0]).shape
    (200, 8)
    """

    n_top_genes: int = 2000
    n_components: int = 50
    theta: float = 100.0
    min_shared_genes: int = 15
    genes: list[str] = field(default_factory=list, init=False, repr=False)
    _arrays: dict[str, NDArray[Any]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if min(self.n_top_genes, self.n_components, self.min_shared_genes) < 1 or not self.theta > 0:
            raise InputError("PearsonPCA needs positive n_top_genes, n_components, theta and min_shared_genes.")

    def fit(self, slices: Sequence[AnnData]) -> Self:
        """Find genes and components.

        Parameters
        ----------
        slices
            Canonical slices, each one section.

        Returns
        -------
        PearsonPCA
            Itself.

        Raises
        ------
        InputError
            If the slices share too few genes, or their counts do not vary.
        """
        values = PearsonResiduals(self.theta, self.min_shared_genes).fit(slices)
        mean, variance = moments(values, slices, np.arange(len(values.genes)))
        top = most_variable(variance, self.n_top_genes)
        blocks = (centred(block, mean[top]) for adata in slices for block in values.blocks(adata, top))
        axes, _ = principal_axes(blocks, self.n_components)
        self.genes = values.genes
        self._arrays = {
            "share": values._share,
            "clip": np.array([values._clip]),
            "top": top,
            "mean": mean[top],
            "axes": axes,
        }
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
        a = self._arrays
        values = PearsonResiduals(self.theta, self.min_shared_genes)
        values.genes, values._share, values._clip = self.genes, a["share"], float(a["clip"][0])
        axes = a["axes"].T.astype(np.float32)
        features = [centred(block, a["mean"]) @ axes for block in values.blocks(adata, a["top"])]
        warn_of_missing(adata, [self.genes[column] for column in a["top"]])
        return np.concatenate(features)

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
        needed = {"genes", "share", "clip", "top", "mean", "axes"}
        if needed != set(state):
            raise InputError(f"The state of PearsonPCA must hold {sorted(needed)}, not {sorted(state)}.")
        genes = state["genes"].tobytes().decode().split("\n")
        arrays = {name: array for name, array in state.items() if name != "genes"}
        width = len(arrays["top"])
        if arrays["axes"].shape[1:] != (width,) or len(arrays["mean"]) != width or len(arrays["share"]) != len(genes):
            raise InputError("The state of PearsonPCA has arrays of shapes that do not fit together.")
        self.genes, self._arrays = genes, arrays
        return self
