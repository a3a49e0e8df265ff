"""How far the surroundings of a cell reach: so many microns, or to so many neighbours."""

from collections.abc import Iterator

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from stgraph import _keys
from stgraph.errors import InputError
from stgraph.graph.mean_degree import radius_for_mean_degree


def radius_for_mean_neighbors(adata: AnnData, n: float) -> float:
    """Radius within which the cells of one section have ``n`` others on average.

    Nicheformer's neighbourhoods have 10, 20, 50 and 100.

    Parameters
    ----------
    adata
        One canonical section.
    n
        Mean number of neighbours, come as near to as the cells allow.

    Returns
    -------
    float
        In the unit of ``obsm["spatial"]``: microns where it is known.

    Raises
    ------
    InputError
        If there are too few cells, or several sections.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.graph.ball_counts import count_within
    >>> from stgraph.tasks.surroundings import radius_for_mean_neighbors
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]
    >>> float(count_within(tissue.obsm["spatial"], radius_for_mean_neighbors(tissue, 10)).mean())
    10.0
    """
    if len(list(sections(adata))) > 1:
        raise InputError("Each section has a radius of its own: pass one of stgraph.io.slices.split_slices.")
    return radius_for_mean_degree(_positions(adata), n)


def reach(adata: AnnData, radius: float | None, mean_neighbors: float | None) -> float:
    """How far the surroundings reach in one section.

    Parameters
    ----------
    adata
        One canonical section.
    radius
        Microns; None where ``mean_neighbors`` says it.
    mean_neighbors
        As in `radius_for_mean_neighbors`; None where ``radius`` says it.

    Returns
    -------
    float
        In the unit of ``obsm["spatial"]``.

    Raises
    ------
    InputError
        If not one of the two is given, or the radius is in microns and the positions are not.
    """
    check_reach("The surroundings", radius, mean_neighbors)
    if mean_neighbors is not None:
        return radius_for_mean_neighbors(adata, mean_neighbors)
    assert radius is not None
    unit = dict(adata.uns.get(_keys.STGRAPH, {})).get(_keys.UNIT)
    if unit != "um":
        name = str(adata.obs[_keys.SLICE].iloc[0]) if _keys.SLICE in adata.obs else "The slice"
        raise InputError(
            f"{name}: a radius of {radius:g} microns has no meaning, for the unit of its coordinates is unknown: "
            "read it with um_per_unit=, or give mean_neighbors instead of radius."
        )
    return radius


def check_reach(who: str, radius: float | None, mean_neighbors: float | None) -> None:
    """Refuse anything but one positive number.

    Raises
    ------
    InputError
        If both or none are given, or the one is not positive and finite.
    """
    given = [value for value in (radius, mean_neighbors) if value is not None]
    if len(given) != 1:
        raise InputError(
            f"{who} need either a radius in microns or mean_neighbors, not {'both' if given else 'none of them'}."
        )
    [value] = given
    if isinstance(value, bool) or not isinstance(value, int | float) or not (np.isfinite(value) and value > 0):
        name = "radius" if mean_neighbors is None else "mean_neighbors"
        raise InputError(f"{who} need a positive {name}, not {value!r}.")


def sections(adata: AnnData) -> Iterator[NDArray[np.int64]]:
    """Rows of each section: surroundings never cross from one to another."""
    if _keys.SLICE not in adata.obs:
        yield np.arange(adata.n_obs)
        return
    ids = adata.obs[_keys.SLICE].astype(str).to_numpy()
    for name in dict.fromkeys(ids.tolist()):
        yield np.flatnonzero(ids == name)


def _positions(adata: AnnData) -> NDArray[np.float64]:
    return np.asarray(adata.obsm[_keys.SPATIAL], dtype=np.float64)
