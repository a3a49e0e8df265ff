"""Spots of known composition, made from a slice of single cells."""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray

from stgraph import _keys
from stgraph.errors import InputError, StgraphWarning
from stgraph.tasks.spot_layouts import HexagonalSpots, SpotLayout
from stgraph.tasks.target import UNKNOWN, label_target

PROPORTIONS = "proportions"
"""``obsm``, (M, K) float64: share of each type among the cells of a spot; ``uns``, (K,): the types."""

N_CELLS = "n_cells"
"""``obs``, (M,) int64: cells of a spot."""


@dataclass(frozen=True)
class GatheredSpots:
    """Spots, and which of them each cell is in.

    Attributes
    ----------
    spots
        As `pseudo_spots` gives them.
    spot_of_cell
        (N,) int64, row of the spot, -1 for none.
    notes
        What was left out.
    """

    spots: AnnData
    spot_of_cell: NDArray[np.int64]
    notes: tuple[str, ...] = ()


def pseudo_spots(adata: AnnData, key: str, *, layout: SpotLayout | None = None, min_cells: int = 1) -> AnnData:
    """Sum the counts of the cells in each spot, and count their types.

    Parameters
    ----------
    adata
        One canonical slice of single cells, in microns; it is not changed.
    key
        Column of ``obs`` with the types. Cells without a type are left out of the counts too,
        so that a spot is made of what its proportions say.
    layout
        Where spots lie; None for those of Visium (`stgraph.tasks.spot_layouts.HexagonalSpots`).
    min_cells
        Fewest cells of a spot; spots with fewer are left out.

    Returns
    -------
    AnnData
        (M, G): summed counts in ``X``, centres in ``obsm["spatial"]``, shares (M, K) of cells
        in ``obsm["proportions"]``, the types in ``uns["proportions"]``, ``obs["n_cells"]``, and
        the columns of ``obs`` that have one value in the slice.

    Raises
    ------
    InputError
        If the unit is unknown, the slice has several sections, no spot has enough cells, or
        the column is not there or has fewer than two types.

    Warns
    -----
    StgraphWarning
        If cells without a type, or spots with too few cells, were left out.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.tasks.pseudo_spots import pseudo_spots
    >>> from stgraph.tasks.spot_layouts import SquareSpots
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]
    >>> spots = pseudo_spots(tissue, "cell_type", layout=SquareSpots(50.0))
    >>> bool(spots.X.sum() == tissue.X.sum()), spots.obsm["proportions"].shape[1]
    (True, 12)
    """
    types = label_target({"": adata}, key)
    gathered = gather_spots(adata, types.of[""].astype(np.int64), types.names, layout=layout, min_cells=min_cells)
    for note in gathered.notes:
        warnings.warn(note, StgraphWarning, stacklevel=2)
    return gathered.spots


def gather_spots(
    adata: AnnData,
    codes: NDArray[np.int64],
    names: tuple[str, ...],
    *,
    layout: SpotLayout | None = None,
    min_cells: int = 1,
) -> GatheredSpots:
    """As `pseudo_spots`, of types given as codes, and with the spot of each cell.

    Parameters
    ----------
    adata, layout, min_cells
        As there.
    codes
        (N,) type of each cell, `stgraph.tasks.target.UNKNOWN` for none.
    names
        The K types.

    Returns
    -------
    GatheredSpots
        With its notes, which are not warned of.

    Raises
    ------
    InputError
        As `pseudo_spots`.
    """
    layout = HexagonalSpots() if layout is None else layout
    name = _checked(adata, min_cells)
    pos = np.asarray(adata.obsm[_keys.SPATIAL], dtype=np.float64)
    centers, spot = layout(pos)
    notes = []
    unknown = (codes == UNKNOWN) & (spot >= 0)
    if unknown.any():
        notes.append(f"{name}: {int(unknown.sum())} cells without a type are in spots and were left out of them.")
        spot = np.where(unknown, -1, spot)
    n_cells = np.bincount(spot[spot >= 0], minlength=len(centers))
    kept = n_cells >= min_cells
    if not kept.any():
        raise InputError(
            f"{name}: none of {len(centers)} spots has {min_cells} cells (the fullest has {int(n_cells.max())}): "
            "use larger spots, or a smaller min_cells."
        )
    few = int(((n_cells > 0) & ~kept).sum())
    if few:
        notes.append(f"{name}: {few} of {int((n_cells > 0).sum())} spots have fewer than {min_cells} cells: left out.")
    row = np.where(kept, np.cumsum(kept) - 1, -1)
    spot = np.where(spot >= 0, row[spot], -1)
    member = _membership(spot, int(kept.sum()))
    composition = member @ _membership(codes, len(names)).T
    n_cells = n_cells[kept]
    index = [f"{name}_spot{i:05d}" for i in range(len(n_cells))]
    # What is said of the whole slice, as its animal, holds for the spots too.
    of_slice = {column: values.iloc[0] for column, values in adata.obs.items() if values.nunique(dropna=False) == 1}
    obs = pd.DataFrame(
        {column: pd.Categorical([value] * len(index)) for column, value in of_slice.items()}, index=index
    )
    obs[_keys.SLICE] = pd.Categorical([name] * len(index))
    obs[N_CELLS] = n_cells
    spots = AnnData(
        X=sp.csr_matrix(member @ sp.csr_matrix(adata.X)).astype(np.int32),
        obs=obs,
        var=adata.var.copy(),
        obsm={_keys.SPATIAL: centers[kept], PROPORTIONS: composition.toarray() / n_cells[:, None]},
        uns={_keys.STGRAPH: dict(adata.uns[_keys.STGRAPH]), PROPORTIONS: list(names)},
    )
    return GatheredSpots(spots, spot, tuple(notes))


def _membership(group: NDArray[np.int64], n_groups: int) -> sp.csr_matrix:
    """(n_groups, N), 1 where a cell is of a group."""
    rows = np.flatnonzero(group >= 0)
    return sp.csr_matrix((np.ones(len(rows), dtype=np.int64), (group[rows], rows)), shape=(n_groups, len(group)))


def _checked(adata: AnnData, min_cells: int) -> str:
    """Name of the slice, if spots can be laid over it."""
    if isinstance(min_cells, bool) or not isinstance(min_cells, int | np.integer) or min_cells < 1:
        raise InputError(f"A spot needs min_cells of at least 1, a whole number, not {min_cells!r}.")
    ids = adata.obs[_keys.SLICE].astype(str).unique() if _keys.SLICE in adata.obs else ["slice"]
    if len(ids) > 1:
        raise InputError(
            f"Spots are made of one section, and there are {len(ids)}: pass one of stgraph.io.slices.split_slices."
        )
    if dict(adata.uns.get(_keys.STGRAPH, {})).get(_keys.UNIT) != "um":
        raise InputError(
            f"{ids[0]}: spots are sized in microns, and the unit of its coordinates is unknown: read it with "
            "um_per_unit=."
        )
    return str(ids[0])
