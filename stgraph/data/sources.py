"""What the files of a corpus hold, found without reading their counts; and what their slices are called."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import pandas as pd
from anndata import AnnData
from anndata.io import read_elem

from stgraph import _keys
from stgraph.errors import InputError
from stgraph.io.read import select_cells
from stgraph.io.slices import assign_slices

Section = tuple[str, str]
"""A file, as an absolute path, and what a slice is called in it."""


@dataclass(frozen=True)
class Look:
    """What to look for in a file.

    Attributes
    ----------
    slice_key, keep, use_rep
        As in `stgraph.data.corpus.build_corpus`.
    """

    slice_key: str | None
    keep: str | None
    use_rep: str | None


@dataclass(frozen=True)
class Scan:
    """What one file holds.

    Attributes
    ----------
    path
        The file, as an absolute path.
    genes
        Names of its genes.
    sections
        Cells of each of its slices, by what they are called in the file.
    num_rows
        Its cells, of all slices, before any are left out.
    width
        C of ``obsm[use_rep]``; None without.
    """

    path: str
    genes: list[str]
    sections: dict[str, int]
    num_rows: int
    width: int | None


def scan(path: str, look: Look) -> Scan:
    """Look into one file; its counts are not read.

    Parameters
    ----------
    path
        An h5ad file.
    look
        What to look for.

    Returns
    -------
    Scan
        What it holds.

    Raises
    ------
    InputError
        If the file cannot be read, or lacks what is looked for.
    """
    name = Path(path).stem
    if not Path(path).is_file():
        raise InputError("there is no such file.")
    try:
        with h5py.File(path, "r") as file:
            genes = [str(gene) for gene in read_elem(file["var"]).index]
            obs = read_elem(file["obs"])
            width = None if look.use_rep is None else _width(file.get(f"obsm/{look.use_rep}"))
            reps = list(file.get("obsm", {}))
    except Exception as error:  # h5py and anndata raise many kinds for a damaged or foreign file
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"it is not a readable h5ad file ({reason}): write it with adata.write_h5ad(...).") from error
    if look.use_rep is not None and width is None:
        raise InputError(f"it has no features in obsm['{look.use_rep}']; obsm has: {', '.join(reps)}.")
    cells = AnnData(obs=obs)
    if look.keep is not None:
        cells = select_cells(cells, look.keep, name).copy()
    if look.slice_key is None and _keys.SLICE not in cells.obs:
        sections = {name: cells.n_obs}
    else:
        assign_slices(cells, name, look.slice_key)
        column = cells.obs[_keys.SLICE].astype(str)
        sections = {str(section): int((column == section).sum()) for section in pd.unique(column)}
    return Scan(path, genes, sections, len(obs), width)


def name_slices(
    found: Mapping[str, Sequence[str]], kept: Mapping[Section, str], taken: Mapping[str, str]
) -> dict[Section, str]:
    """Names for the slices of a corpus, each different.

    A slice keeps the name it was built with before. Others are called as in their file. If
    two that are called after their files share a name, the folders of these are put before it.

    Parameters
    ----------
    found
        For each file, its slices, by what they are called there.
    kept
        Names of slices that were built before.
    taken
        All names that were given before, with the file they were given for.

    Returns
    -------
    dict
        Name of each slice that was found.

    Raises
    ------
    InputError
        If two names are the same all the same, or one cannot be a file name.

    Examples
    --------
    >>> from stgraph.data.sources import name_slices
    >>> name_slices({"/a/x.h5ad": ["x"], "/b/x.h5ad": ["x"], "/b/y.h5ad": ["y"]}, {}, {})
    {('/a/x.h5ad', 'x'): 'a_x', ('/b/x.h5ad', 'x'): 'b_x', ('/b/y.h5ad', 'y'): 'y'}
    """
    sections = [(path, section) for path, within in found.items() for section in within]
    fresh = [at for at in sections if at not in kept]
    wanted = Counter(section for _, section in fresh)
    names = {at: kept[at] for at in sections if at in kept}
    owner = dict(taken)
    for path, section in fresh:
        name = section
        if (wanted[section] > 1 or section in taken) and section == Path(path).stem:
            name = f"{Path(path).parent.name}_{section}"
        if name in owner:
            raise InputError(
                f"Two slices are called '{name}', of '{owner[name]}' and '{path}': "
                f"rename a file, or set obs['{_keys.SLICE}'] apart."
            )
        if not name or name.startswith(".") or set(name) & set("/\\\0") or len(os.fsencode(name)) > 200:
            raise InputError(f"The slice name '{name}' of '{path}' cannot be a file name: rename it.")
        owner[name] = path
        names[path, section] = name
    return {at: names[at] for at in sections}


def _width(stored: h5py.Dataset | h5py.Group | None) -> int | None:
    if isinstance(stored, h5py.Dataset):
        return int(stored.shape[1]) if stored.ndim == 2 else None
    if isinstance(stored, h5py.Group) and "shape" in stored.attrs:
        return int(stored.attrs["shape"][1])
    if isinstance(stored, h5py.Group) and "column-order" in stored.attrs:
        return len(stored.attrs["column-order"])
    return None
