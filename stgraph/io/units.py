"""From the unit of the file to microns: told, derived from the array, or said to be unknown."""

import warnings
from collections.abc import Mapping
from typing import Any, TypeGuard

import numpy as np
from anndata import AnnData

from stgraph import _keys
from stgraph.errors import InputError, StgraphWarning

VISIUM_PITCH_UM = 100.0
"""Centre-to-centre distance of neighbouring Visium spots, microns."""

_VISIUM_MAX_RESIDUAL_UM = 10.0
_FEWEST_SPOTS = 20
"""With fewer, a similarity fits by chance."""


def to_microns(adata: AnnData, name: str, um_per_unit: float | None = None) -> None:
    """Scale ``obsm["spatial"]`` to microns in place and record who said so.

    In this order: the option; a file that stgraph wrote; ``microns_per_pixel`` of Space
    Ranger's scale factors (Visium HD); the known pitch of the Visium array, fitted to
    ``obs["array_row"]`` and ``obs["array_col"]``. If none tells, coordinates stay as they
    are, the unit is recorded as unknown and a `StgraphWarning` says so: nothing is guessed.
    Space Ranger's own scale factors in ``uns["spatial"]`` follow, so that images still
    lie under the spots.

    Parameters
    ----------
    adata
        A slice file with positions in ``obsm["spatial"]``; changed.
    name
        What to call it in messages.
    um_per_unit
        Microns per unit of the coordinates, if known.

    Raises
    ------
    InputError
        If ``um_per_unit`` is not a positive number.
    """
    if um_per_unit is not None and not (np.isfinite(um_per_unit) and um_per_unit > 0):
        raise InputError(f"--um-per-unit must be a positive number of microns, not {um_per_unit}.")
    record = adata.uns[_keys.STGRAPH]
    if um_per_unit not in (None, 1.0) and record.get(_keys.UNIT) == "um":
        raise InputError(
            f"{name}: its coordinates are in microns already, as stgraph wrote them: "
            "leave out --um-per-unit (data.um_per_unit=)."
        )
    if um_per_unit is None and record.get(_keys.UNIT) == "um":
        record.setdefault(_keys.UM_PER_UNIT, 1.0)
        record[_keys.UNIT_SOURCE] = "file"
        return
    factor, source = _factor(adata, um_per_unit)
    record[_keys.UM_PER_UNIT] = float("nan") if factor is None else float(factor)
    record[_keys.UNIT_SOURCE] = source
    if factor is None:
        record[_keys.UNIT] = "unknown"
        warnings.warn(
            f"{name}: the unit of the coordinates is unknown, so they are used as they are and distances count "
            "in multiples of the typical spacing of its cells; for microns give --um-per-unit (data.um_per_unit= of "
            "stgraph train, um_per_unit= in Python).",
            StgraphWarning,
            stacklevel=2,
        )
        return
    record[_keys.UNIT] = "um"
    adata.obsm[_keys.SPATIAL] = adata.obsm[_keys.SPATIAL] * factor
    _rescale_images(adata, factor)


def _factor(adata: AnnData, um_per_unit: float | None) -> tuple[float | None, str]:
    if um_per_unit is not None:
        return um_per_unit, "option"
    libraries = [factors.get("microns_per_pixel") for factors in _scale_factors(adata)]
    told = {float(um) for um in libraries if _is_number(um) and np.isfinite(um) and um > 0}
    # Sections of different scale in one file have no one factor.
    if len(told) == 1 and len(libraries) == sum(map(_is_number, libraries)):
        return told.pop(), "file"
    pitch = _visium_um_per_unit(adata)
    return (None, "none") if pitch is None else (pitch, "visium array")


def _visium_um_per_unit(adata: AnnData) -> float | None:
    """Scale of the similarity that lays the Visium array over the pixel coordinates."""
    one_library = len(_scale_factors(adata)) == 1
    if not one_library or not {"array_row", "array_col"} <= set(adata.obs.columns) or adata.n_obs < _FEWEST_SPOTS:
        return None
    try:
        row, col = (adata.obs[key].to_numpy(dtype=np.float64) for key in ("array_row", "array_col"))
    except (TypeError, ValueError):
        return None
    # Visium: neighbours in a row are two columns apart; rows are sqrt(3)/2 of the pitch apart.
    array = np.stack([col * VISIUM_PITCH_UM / 2, row * VISIUM_PITCH_UM * np.sqrt(3) / 2], axis=1)
    pixels = adata.obsm[_keys.SPATIAL]
    array = array - array.mean(axis=0)
    pixels = pixels - pixels.mean(axis=0)
    spread = float((array**2).sum())
    if spread == 0 or not np.isfinite(spread):
        return None
    # Orthogonal Procrustes with scale; reflections allowed, for images have y down.
    left, singular, right = np.linalg.svd(array.T @ pixels)
    scale = float(singular.sum()) / spread
    if singular[1] <= 1e-6 * singular[0]:  # all in one row: any scale would fit across it
        return None
    residual = np.sqrt(((pixels / scale - array @ left @ right) ** 2).sum(axis=1).mean())
    return 1.0 / scale if residual < _VISIUM_MAX_RESIDUAL_UM else None


def _scale_factors(adata: AnnData) -> list[Mapping[str, Any]]:
    libraries = adata.uns.get("spatial")
    if not isinstance(libraries, Mapping):
        return []
    found = [lib.get("scalefactors") for lib in libraries.values() if isinstance(lib, Mapping)]
    return [factors for factors in found if isinstance(factors, Mapping)]


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float | np.number)


def _rescale_images(adata: AnnData, factor: float) -> None:
    libraries = adata.uns.get("spatial")
    if not isinstance(libraries, Mapping):
        return
    # Image pixel = scale factor x coordinate, so a coordinate in microns needs factor / um_per_unit.
    power = {"tissue_hires_scalef": -1, "tissue_lowres_scalef": -1, "spot_diameter_fullres": 1}
    power |= {"fiducial_diameter_fullres": 1, "microns_per_pixel": -1}
    adata.uns["spatial"] = {
        key: dict(lib)
        | {
            "scalefactors": {
                k: float(v) * factor ** power[k] if k in power and _is_number(v) else v
                for k, v in lib["scalefactors"].items()
            }
        }
        if isinstance(lib, Mapping) and isinstance(lib.get("scalefactors"), Mapping)
        else lib
        for key, lib in libraries.items()
    }
