"""What is to be predicted of each cell: its class, or some values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from stgraph.errors import InputError
from stgraph.tasks.given import check_slices

UNKNOWN = -1
"""Class of a cell without a label."""


@dataclass(frozen=True)
class Target:
    """The truth about the cells of several slices.

    Attributes
    ----------
    name
        What it is, as in ``domain``.
    kind
        ``"classes"`` or ``"values"``.
    names
        The K classes, or the D values.
    of
        By slice: (N,) int64 classes, `UNKNOWN` where there is no label; or (N, D)
        float64, NaN in a whole row where there is no value.
    """

    name: str
    kind: Literal["classes", "values"]
    names: tuple[str, ...]
    of: Mapping[str, NDArray[np.int64] | NDArray[np.float64]]

    def known(self, slice_id: str) -> NDArray[np.bool_]:
        """(N,) bool, the cells of a slice of which there is a truth; none of a slice without."""
        truth = self.of[slice_id]
        known = truth != UNKNOWN if self.kind == "classes" else ~np.isnan(truth).any(axis=1)
        return np.asarray(known, dtype=bool)

    def shown(self, masks: Mapping[str, NDArray[np.bool_]]) -> "Target":
        """The same target with the truth of the cells of a mask alone; all other cells are unknown.

        Parameters
        ----------
        masks
            (N,) bool of slices, by name; a slice that is not there becomes unknown as a whole.

        Returns
        -------
        Target
            With the same classes or values.
        """
        hidden = UNKNOWN if self.kind == "classes" else np.nan
        of: dict[str, NDArray[np.int64] | NDArray[np.float64]] = {}
        for name, truth in self.of.items():
            mask = masks.get(name, np.zeros(len(truth), dtype=bool))
            of[name] = truth.copy()
            of[name][~mask] = hidden
        return Target(self.name, self.kind, self.names, of)


def label_target(slices: Mapping[str, AnnData], key: str) -> Target:
    """Target from a column of labels.

    Parameters
    ----------
    slices
        By name. A slice without the column has no known cells.
    key
        Column of ``obs``; missing values and empty texts are unknown.

    Returns
    -------
    Target
        Its classes are those of all slices, sorted by name.

    Raises
    ------
    InputError
        If no slice has the column, or it has fewer than two classes.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.tasks.target import label_target
    >>> label_target({"a": stgraph.synthetic_tissue(n_cells=100, n_genes=60)[0]}, "domain").kind
    'classes'
    """
    check_slices(slices)
    texts: dict[str, NDArray[np.str_]] = {}
    for name, adata in slices.items():
        if key in adata.obs:
            column = adata.obs[key]
            texts[name] = np.where(column.isna(), "", column.astype(str).to_numpy()).astype(str)
        else:
            texts[name] = np.full(adata.n_obs, "", dtype=str)
    names = sorted({str(text) for values in texts.values() for text in np.unique(values)} - {""})
    if len(names) < 2:
        columns = sorted({str(column) for adata in slices.values() for column in adata.obs.columns})
        raise InputError(
            f"obs['{key}'] has {len(names)} classes in the slices {', '.join(slices)}, and two are needed at least; "
            f"their columns are: {', '.join(columns)}."
        )
    code = {name: number for number, name in enumerate(names)} | {"": UNKNOWN}
    of = {name: np.array([code[str(text)] for text in values], dtype=np.int64) for name, values in texts.items()}
    return Target(key, "classes", tuple(names), of)
