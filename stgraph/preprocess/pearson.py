"""Analytic Pearson residuals, and their principal components."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from stgraph.errors import InputError
from stgraph.preprocess.gene_pca import GenePCA
from stgraph.preprocess.gene_values import GeneValues, aligned, dense_blocks, gene_shares
from stgraph.preprocess.genes import shared_genes
from stgraph.preprocess.named_arrays import bytes_to_genes, check_fit, check_names, genes_to_bytes


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

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything learned, as named arrays; gene names as UTF-8 bytes."""
        return {"genes": genes_to_bytes(self.genes), "share": self._share, "clip": np.array([self._clip])}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> Self:
        """Take over what `state` gave.

        Raises
        ------
        InputError
            If an array is missing or of the wrong shape.
        """
        check_names(self, state, {"genes", "share", "clip"})
        genes = bytes_to_genes(state["genes"])
        check_fit(self, state["share"].shape == (len(genes),) and state["clip"].shape == (1,))
        self.genes, self._share, self._clip = genes, state["share"], float(state["clip"][0])
        return self


@dataclass
class PearsonPCA(GenePCA):
    """Principal components of Pearson residuals: the strongest simple encoder of a cell type.

    `GenePCA` of `PearsonResiduals`, by a shorter name.

    Parameters
    ----------
    n_top_genes, n_components, whiten
        As in `stgraph.preprocess.gene_pca.GenePCA`.
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

    n_components: int = 50
    values: GeneValues | Mapping[str, Any] = field(init=False, repr=False, compare=False)
    theta: float = 100.0
    min_shared_genes: int = 15

    def __post_init__(self) -> None:
        self.values = PearsonResiduals(self.theta, self.min_shared_genes)
        super().__post_init__()
