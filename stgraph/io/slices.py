"""One file may hold several tissue sections; a graph never crosses from one to another."""

import os
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from stgraph import _keys
from stgraph.errors import InputError, StgraphWarning

_LOOKS_LIKE_SLICES = ("sample", "sample_id", "library_id", "slice", "section", "section_id", "batch")


def assign_slices(adata: AnnData, name: str, slice_key: str | None = None) -> None:
    """Write ``obs["slice_id"]`` in place.

    Parameters
    ----------
    adata
        One file; changed.
    name
        Name of the slice if the file holds one only.
    slice_key
        Column of ``obs`` that names the section of a cell.

    Raises
    ------
    InputError
        If the column is not there or has missing values.
    """
    if slice_key is not None and slice_key not in adata.obs:
        raise InputError(
            f"{name}: obs has no column '{slice_key}' to tell slices apart; it has: {', '.join(adata.obs.columns)}."
        )
    key = slice_key or (_keys.SLICE if _keys.SLICE in adata.obs else None)
    if key is None:
        _warn_if_several(adata, name)
        values = np.full(adata.n_obs, name, dtype=object)
    else:
        missing = int(adata.obs[key].isna().sum())
        if missing:
            raise InputError(f"{name}: {missing} cells have no value in obs['{key}'], so their slice is unknown.")
        values = adata.obs[key].astype(str).to_numpy(dtype=object)
    adata.obs[_keys.SLICE] = pd.Categorical(values)


def split_slices(adatas: Iterable[AnnData], *, files: Sequence[str | os.PathLike[str]] = ()) -> dict[str, AnnData]:
    """One AnnData for each slice, by name, in the order of the input.

    Parameters
    ----------
    adatas
        Canonical AnnData, each with one slice or several.
    files
        Where they were read from, for messages.

    Returns
    -------
    dict
        Slice name to AnnData. A file of several slices gives copies; a file of one slice
        is passed through.

    Raises
    ------
    InputError
        If two slices share a name, or a name cannot be a file name.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.io.slices import split_slices
    >>> list(split_slices(stgraph.synthetic_tissue(n_cells=100, n_genes=60, n_slices=2)))
    ['synthetic_0', 'synthetic_1']
    """
    slices: dict[str, AnnData] = {}
    given = list(adatas)
    check_apart(given, files)
    for adata in given:
        ids = adata.obs[_keys.SLICE].astype(str)
        for slice_id in pd.unique(ids):
            if not re.fullmatch(r"[^/\\\0]+", slice_id) or slice_id.startswith(".") or len(os.fsencode(slice_id)) > 200:
                raise InputError(f"The slice name '{slice_id}' cannot be a file name: rename it.")
            part = (ids == slice_id).to_numpy()
            slices[slice_id] = adata if part.all() else adata[part].copy()
    if not slices:
        raise InputError("No slice was given.")
    return slices


def check_apart(adatas: Sequence[AnnData], files: Sequence[str | os.PathLike[str]] = ()) -> None:
    """Refuse two slices of one name.

    Parameters
    ----------
    adatas
        Canonical AnnData.
    files
        Where they were read from, for the message; or nothing.

    Raises
    ------
    InputError
        If two slices share a name. A file lends its name only where ``obs``
        has none, so only then it says to rename it.
    """
    owner: dict[str, int] = {}
    for i, adata in enumerate(adatas):
        for slice_id in adata.obs[_keys.SLICE].astype(str).unique():
            first = owner.setdefault(slice_id, i)
            if first == i:
                continue
            apart = f"set obs['{_keys.SLICE}'] apart, or name another column that does (slice_key)"
            if not files:
                raise InputError(f"Two slices are called '{slice_id}': rename a file that is called so, or {apart}.")
            two = [os.fspath(files[first]), os.fspath(files[i])]
            mend = f"rename one, or {apart}" if slice_id in [Path(file).stem for file in two] else apart
            raise InputError(f"Two slices are called '{slice_id}', of '{two[0]}' and '{two[1]}': {mend}.")


def _warn_if_several(adata: AnnData, name: str) -> None:
    for column in _LOOKS_LIKE_SLICES:
        if column in adata.obs and (n := adata.obs[column].nunique()) > 1:
            warnings.warn(
                f"{name}: obs['{column}'] has {n} values; if they are separate sections, pass --slice-key {column} "
                "(data.slice_key= of stgraph train, slice_key= in Python), or cells of different sections become "
                "neighbours.",
                StgraphWarning,
                stacklevel=3,
            )
            return
