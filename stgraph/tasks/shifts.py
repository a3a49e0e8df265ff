"""What is done to a judged slice to see whether a model still knows its cells."""

import hashlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from anndata import AnnData

from stgraph import _keys
from stgraph.errors import InputError
from stgraph.graph.arguments import check_whole
from stgraph.preprocess.thinning import check_share, thin_counts


class Shift(Protocol):
    """Changes a slice as another experiment would have.

    Attributes
    ----------
    name
        Name in tables.
    everywhere
        Whether slices that are learnt from are changed alike, since everyone knows of it
        beforehand, as of a panel of genes; such a shift keeps all cells.
    """

    @property
    def name(self) -> str: ...  # noqa: D102  as above

    @property
    def everywhere(self) -> bool: ...  # noqa: D102  as above

    def __call__(self, adata: AnnData, *, random_state: int = 0) -> AnnData:
        """A changed copy; the cells that are left keep their names and their order."""
        ...


@dataclass(frozen=True)
class Thinned:
    """Shallower sequencing: each counted molecule is kept with one probability.

    Parameters
    ----------
    share
        Of the molecules that are kept.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.tasks.shifts import Thinned
    >>> tissue = stgraph.synthetic_tissue(n_cells=100, n_genes=60)[0]
    >>> round(float(Thinned(0.3)(tissue).X.sum() / tissue.X.sum()), 1)
    0.3
    """

    share: float = 0.3

    def __post_init__(self) -> None:
        check_share(self.share, "Thinned")

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"thinned to {self.share:.0%}"

    @property
    def everywhere(self) -> bool:
        """False: only judged slices are shallow."""
        return False

    def __call__(self, adata: AnnData, *, random_state: int = 0) -> AnnData:
        """A copy with fewer counts.

        Parameters
        ----------
        adata
            Counts in ``X``.
        random_state
            Seed of the draw.

        Returns
        -------
        AnnData
            The same cells and genes; a cell may be left without any count.
        """
        return thin_counts(adata, self.share, random_state=random_state)


@dataclass(frozen=True)
class HalfSlice:
    """A crop: the half of the slice on one side of a line through its middle.

    The line has a random direction and as many cells on either side. The tissue of a half is
    composed otherwise than that of the whole, and some cells lose neighbours.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.tasks.shifts import HalfSlice
    >>> HalfSlice()(stgraph.synthetic_tissue(n_cells=100, n_genes=60)[0]).n_obs
    50
    """

    @property
    def name(self) -> str:
        """Name in tables."""
        return "half slice"

    @property
    def everywhere(self) -> bool:
        """False: only judged slices are cropped."""
        return False

    def __call__(self, adata: AnnData, *, random_state: int = 0) -> AnnData:
        """A copy of half of the cells, rounded up.

        Parameters
        ----------
        adata
            With positions in ``obsm["spatial"]``.
        random_state
            Seed of the direction.

        Returns
        -------
        AnnData
            The cells of one side.
        """
        angle = np.random.default_rng(random_state).uniform(0, 2 * np.pi)
        pos = np.asarray(adata.obsm[_keys.SPATIAL], dtype=np.float64)
        along = (pos - pos.mean(axis=0)) @ np.array([np.cos(angle), np.sin(angle)])
        half = np.argsort(along, kind="stable")[: (adata.n_obs + 1) // 2]
        return adata[np.sort(half)].copy()


@dataclass(frozen=True)
class _FewerGenes:
    """A random choice of the genes, by their names, so that all slices of a study keep the same."""

    n_genes: int = 300

    def __post_init__(self) -> None:
        check_whole(self, "n_genes")

    def __call__(self, adata: AnnData, *, random_state: int = 0) -> AnnData:
        """A copy with fewer genes, in their order.

        Parameters
        ----------
        adata
            Any slice.
        random_state
            Seed of the choice.

        Returns
        -------
        AnnData
            The same cells.

        Raises
        ------
        InputError
            If the slice has no more genes than that, so that nothing would be shifted.
        """
        if adata.n_vars <= self.n_genes:
            raise InputError(
                f"The slice has {adata.n_vars} genes, so none would be taken away to leave {self.n_genes}: give "
                f"{type(self).__name__} a smaller n_genes."
            )
        salt = str(random_state).encode()[:16]
        draws = [hashlib.blake2b(str(gene).encode(), digest_size=8, salt=salt).digest() for gene in adata.var_names]
        kept = np.argsort(np.array(draws), kind="stable")[: self.n_genes]
        return adata[:, np.sort(kept)].copy()


@dataclass(frozen=True)
class SharedGenes(_FewerGenes):
    """A smaller panel: a random choice of the genes, and nothing else.

    Genes are chosen by their names, so that all slices of a study keep the same.

    Parameters
    ----------
    n_genes
        Genes that are left.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.tasks.shifts import SharedGenes
    >>> SharedGenes(20)(stgraph.synthetic_tissue(n_cells=100, n_genes=60)[0]).n_vars
    20
    """

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"{self.n_genes} genes"

    @property
    def everywhere(self) -> bool:
        """True: who has two panels knows which genes they share, and learns on these."""
        return True


@dataclass(frozen=True)
class MissingGenes(_FewerGenes):
    """A slice of a smaller panel for a model that was made before: it lacks most of the genes the model reads.

    The choice is that of `SharedGenes`, which tells those who learn of it beforehand.

    Parameters
    ----------
    n_genes
        Genes that are left.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.tasks.shifts import MissingGenes
    >>> MissingGenes(20)(stgraph.synthetic_tissue(n_cells=100, n_genes=60)[0]).n_vars
    20
    """

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"only {self.n_genes} genes"

    @property
    def everywhere(self) -> bool:
        """False: nobody knew."""
        return False


def robustness() -> list[Shift]:
    """What every model should face: 30 % of the counts, half a slice, 300 genes that all share, or one slice has.

    A non-adjacent slice and another animal or donor complete the suite. These are splits:
    `stgraph.tasks.splits.LeaveOneSliceOut` over the slices of a study, with ``group_key``.

    Returns
    -------
    list of Shift
        Four.

    Examples
    --------
    >>> from stgraph.tasks.shifts import robustness
    >>> [shift.name for shift in robustness()]
    ['thinned to 30%', 'half slice', '300 genes', 'only 300 genes']
    """
    return [Thinned(), HalfSlice(), SharedGenes(), MissingGenes()]
