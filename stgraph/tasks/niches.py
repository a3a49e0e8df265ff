"""Niches for tissue on which nobody has annotated any, derived from its cell types."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from stgraph import _keys
from stgraph._version import __version__
from stgraph.errors import InputError
from stgraph.graph.builders import KNN, Radius
from stgraph.tasks.target import label_target

NICHE = "stgraph_niche"
"""``obs``, (N,) category of str: the derived niche of a cell."""


def niche_labels(
    adatas: AnnData | Sequence[AnnData],
    key: str,
    *,
    n_niches: int,
    n_neighbors: int | None = None,
    radius: float | None = None,
    random_state: int = 0,
) -> list[AnnData]:
    """Cluster cells by the types of their neighbours.

    The shares of the types among the neighbours of each cell, the cell itself counted, are
    clustered by k-means over all slices together, so that a niche is the same in each.

    **These labels are derived, not observed.** They say what a method makes of the cell types; a
    model that predicts them has learnt to count types, not to find what a pathologist
    sees. The niche of a judged cell follows from the types of cells within the radius, so that
    only splits with a buffer of more than two radii are honest within a slice.
    ``uns["stgraph"]["niche"]`` of each slice says how they were derived.

    Parameters
    ----------
    adatas
        Canonical slices, each one section; they are not changed.
    key
        Column of ``obs`` with cell types; cells without one do not count as neighbours.
    n_niches
        Number of niches.
    n_neighbors
        Nearest cells that are neighbours; give this or ``radius``.
    radius
        Distance within which cells are neighbours, in the unit of the positions (microns
        where known).
    random_state
        Seed of k-means.

    Returns
    -------
    list of AnnData
        Copies with ``obs["stgraph_niche"]``, ``"niche 1"`` and so on from the most frequent;
        missing for a cell without any neighbour of known type.

    Raises
    ------
    InputError
        If not one of ``n_neighbors`` and ``radius`` is given, or there are fewer
        different neighbourhoods than niches.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.tasks.niches import niche_labels
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]
    >>> [labelled] = niche_labels(tissue, "cell_type", n_niches=3, n_neighbors=15)
    >>> sorted(set(labelled.obs["stgraph_niche"]))
    ['niche 1', 'niche 2', 'niche 3']
    """
    if (n_neighbors is None) == (radius is None):
        raise InputError("niche_labels needs either n_neighbors or radius, to say who is a neighbour.")
    builder = KNN(n_neighbors, symmetric=False) if n_neighbors is not None else Radius(float(radius or 0))
    sections = [adatas] if isinstance(adatas, AnnData) else list(adatas)
    target = label_target({str(i): adata for i, adata in enumerate(sections)}, key)
    shares = []
    for number, adata in enumerate(sections):
        code = np.asarray(target.of[str(number)], dtype=np.int64)
        type_of = np.eye(len(target.names) + 1)[code][:, :-1]  # a cell of unknown type has none
        near = builder(np.asarray(adata.obsm[_keys.SPATIAL], dtype=np.float64))
        near.data[:] = 1.0  # also where two cells coincide
        counts = near @ type_of + type_of
        total = counts.sum(axis=1, keepdims=True)
        shares.append(np.where(total > 0, counts / np.maximum(total, 1), np.nan))
    niche = _clustered(np.concatenate(shares), n_niches, random_state)
    names = [f"niche {i + 1}" for i in range(n_niches)]
    how = {"derived": True, "from": key, "n_niches": n_niches, "random_state": random_state, "version": __version__}
    how |= {"n_neighbors": n_neighbors} if n_neighbors is not None else {"radius": radius}
    out, start = [], 0
    for adata in sections:
        labelled = adata.copy()
        codes = niche[start : start + adata.n_obs]
        labelled.obs[NICHE] = pd.Categorical.from_codes(codes.tolist(), categories=pd.Index(names))
        labelled.uns[_keys.STGRAPH] = {**labelled.uns.get(_keys.STGRAPH, {}), "niche": dict(how)}
        out.append(labelled)
        start += adata.n_obs
    return out


def _clustered(shares: NDArray[np.float64], n_niches: int, random_state: int) -> NDArray[np.int64]:
    """Niche of each cell, the most frequent first; -1 where there are no shares."""
    known = ~np.isnan(shares).any(axis=1)
    n_different = len(np.unique(shares[known], axis=0))
    if not 2 <= n_niches <= n_different:
        raise InputError(
            f"niche_labels needs n_niches from 2 to {n_different}, the number of different neighbourhoods, "
            f"not {n_niches}."
        )
    found = KMeans(n_niches, n_init=10, random_state=random_state).fit_predict(shares[known])
    rank = np.argsort(np.argsort(-np.bincount(found, minlength=n_niches), kind="stable"))
    niche = np.full(len(shares), -1, dtype=np.int64)
    niche[known] = rank[found]
    return niche
