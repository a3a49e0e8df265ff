"""Is this a tissue slice? Every check says what is wrong and how to mend it."""

import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray

from stgraph import _keys
from stgraph.errors import InputError

_NAME_LAYER = "name their layer (--layer, data.layer= of stgraph train, layer= in Python)"

_FARTHEST = 1e12
"""Coordinates beyond this are a mistake, and their squares would soon overflow."""


def check_names(adata: AnnData, name: str) -> None:
    """Raise `InputError` for no cells, no genes, or duplicated cell or gene names."""
    if adata.n_obs == 0 or adata.n_vars == 0:
        raise InputError(f"{name}: there is nothing in it ({adata.n_obs} cells x {adata.n_vars} genes).")
    if adata.n_obs == 1:
        raise InputError(f"{name}: there is one cell only, and a graph needs neighbours.")
    for names, what, mend in (
        (adata.obs_names, "cell", "adata.obs_names_make_unique()"),
        (adata.var_names, "gene", "adata.var_names_make_unique()"),
    ):
        if not names.is_unique:
            repeated = names[names.duplicated()]
            raise InputError(
                f"{name}: {len(repeated)} duplicated {what} names (the first is '{repeated[0]}'): "
                f"make them unique, for example with {mend}."
            )


def canonical_counts(adata: AnnData, name: str, layer: str | None = None) -> sp.csr_matrix:
    """Raw counts as CSR int32, checked.

    Parameters
    ----------
    adata
        The slice; it is not changed.
    name
        What to call it in messages.
    layer
        Layer to take instead of ``X``.

    Returns
    -------
    csr_matrix
        (N, G) int32 with sorted indices and no stored zeros.

    Raises
    ------
    InputError
        For missing, negative, non-finite, fractional or all-zero counts.
    """
    if layer is not None and layer not in adata.layers:
        raise InputError(f"{name}: there is no layer '{layer}'; it has: {_listing(adata.layers)}.")
    where = "X" if layer is None else f"layers['{layer}']"
    matrix = adata.X if layer is None else adata.layers[layer]
    if matrix is None:
        raise InputError(f"{name}: X is empty: put the raw counts there, or {_NAME_LAYER}.")
    if getattr(matrix, "dtype", None) == np.float16:
        matrix = np.asarray(matrix, dtype=np.float32)  # scipy has no sparse matrices of half precision
    counts = sp.csr_matrix(matrix)
    values = counts.data
    if not np.issubdtype(values.dtype, np.number) or np.issubdtype(values.dtype, np.complexfloating):
        raise InputError(f"{name}: {where} holds {values.dtype}, not numbers: put raw counts there.")
    if not np.isfinite(values).all():
        raise InputError(f"{name}: {where} holds NaN or infinite values: put raw counts there.")
    if (values < 0).any():
        raise InputError(
            f"{name}: {where} holds negative values (the least is {values.min():g}), so it is not raw counts: "
            f"put the counts back into X, or {_NAME_LAYER}."
        )
    fractional = values != np.floor(values)
    if fractional.any():
        raise InputError(
            f"{name}: {where} holds fractions (such as {values[fractional][0]:g}), so it seems normalised: "
            f"put the raw counts back into X, or {_NAME_LAYER}."
        )
    if not values.any():
        raise InputError(f"{name}: all counts in {where} are zero.")
    if values.max() > np.iinfo(np.int32).max:
        raise InputError(f"{name}: {where} holds values above {np.iinfo(np.int32).max}: these are not counts.")
    counts = counts.astype(np.int32)
    if counts is matrix or np.shares_memory(counts.data, getattr(matrix, "data", values)):
        counts = counts.copy()
    counts.eliminate_zeros()
    counts.sort_indices()
    return counts


def canonical_positions(adata: AnnData, name: str) -> NDArray[np.float64]:
    """Positions as (N, 2) float64, checked, in the unit of the file.

    Parameters
    ----------
    adata
        The slice.
    name
        What to call it in messages.

    Returns
    -------
    ndarray
        (N, 2) float64.

    Raises
    ------
    InputError
        For missing, non-finite or three-dimensional positions, or all cells at one point.
    """
    if _keys.SPATIAL not in adata.obsm:
        raise InputError(
            f"{name}: there is no obsm['{_keys.SPATIAL}'] with the cells' coordinates; obsm has: "
            f"{_listing(adata.obsm)}. Set adata.obsm['{_keys.SPATIAL}'] = an array of (x, y)."
        )
    try:
        pos = np.array(adata.obsm[_keys.SPATIAL], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: obsm['{_keys.SPATIAL}'] does not hold numbers ({error}).") from error
    if pos.ndim == 2 and pos.shape[1] == 3 and np.ptp(pos[:, 2]) == 0:
        pos = np.ascontiguousarray(pos[:, :2])
    if pos.ndim != 2 or pos.shape[1] != 2:
        raise InputError(
            f"{name}: obsm['{_keys.SPATIAL}'] has shape {pos.shape}, but a slice is flat: give (cells, 2), "
            "one section at a time."
        )
    bad = ~np.isfinite(pos).all(axis=1)
    if bad.any():
        raise InputError(
            f"{name}: {int(bad.sum())} cells have NaN or infinite coordinates (the first is "
            f"'{adata.obs_names[int(np.argmax(bad))]}'): drop them."
        )
    if np.abs(pos).max() > _FARTHEST:
        raise InputError(f"{name}: there are coordinates beyond {_FARTHEST:g}, which are neither microns nor pixels.")
    if len(pos) > 1 and (pos == pos[0]).all():
        raise InputError(f"{name}: all {len(pos)} cells lie at one point ({pos[0, 0]:g}, {pos[0, 1]:g}).")
    return pos


def _listing(mapping: object) -> str:
    names = [f"'{key}'" for key in mapping]  # type: ignore[attr-defined]
    return ", ".join(names) if names else "nothing"
