"""A study: slices that belong together, and what is known of their cells."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData

from stgraph.data.arrays import sha256_of
from stgraph.errors import InputError
from stgraph.io.read import read
from stgraph.io.slices import split_slices

GROUP = "group"
"""Column of ``obs`` in which the donor or animal of a slice stands, once a study is loaded."""

NICHE, NICHE_KEY = "niche", "stgraph_niche"
"""What a person calls the labels of the task of niches, and the column `configs/task/niche.yaml` knows."""


@dataclass(frozen=True)
class Study:
    """Files of slices, and which columns hold which labels.

    Parameters
    ----------
    name
        In tables.
    files
        ``.h5ad`` files, absolute or from the folder of the grid's data.
    labels
        Column of ``obs`` by what it holds, as ``{"domain": "layer"}``; the tasks know the
        names on the left: ``domain``, ``cell_type``, ``niche``.
    missing
        Labels that are none, as ``{"cell_type": ["Ambiguous"]}``.
    group
        Column of ``obs`` that names the donor or animal of a slice, for splits that leave
        one out.
    tasks
        Names of the tasks that make sense for it; None for all that find their labels.
    slice_key, keep, layer
        As in `stgraph.read`.
    um_per_unit
        Likewise; or one number for each file, by its name without suffix.

    Examples
    --------
    >>> from stgraph.benchmark.study import Study
    >>> Study("cortex", ["a.h5ad"], labels={"domain": "layer"}).labels["domain"]
    'layer'
    """

    name: str
    files: Sequence[str]
    labels: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, Sequence[str]] = field(default_factory=dict)
    group: str | None = None
    tasks: Sequence[str] | None = None
    slice_key: str | None = None
    keep: str | None = None
    um_per_unit: float | Mapping[str, float] | None = None
    layer: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.files, str) or not self.files:
            raise InputError(f"Study '{self.name}' needs a list of files, not {self.files!r}.")
        if unknown := set(self.missing) - set(self.labels):
            raise InputError(f"Study '{self.name}' says which labels are missing of {sorted(unknown)}, not its labels.")

    def load(self, root: Path) -> dict[str, AnnData]:
        """Read the slices.

        Parameters
        ----------
        root
            What relative files are counted from.

        Returns
        -------
        dict
            Canonical slices by name. Labels stand in the columns the tasks know, and the
            donor in ``obs["group"]``.

        Raises
        ------
        InputError
            If a file cannot be used or lacks a column.
        """
        wholes = [
            read(root / file, slice_key=self.slice_key, keep=self.keep, um_per_unit=self._unit(file), layer=self.layer)
            for file in self.files
        ]
        for file, adata in zip(self.files, wholes, strict=True):
            wanted = {**self.labels, **({GROUP: self.group} if self.group else {})}
            if lost := sorted({column for column in wanted.values() if column not in adata.obs}):
                raise InputError(
                    f"Study '{self.name}': obs of '{file}' has no column {', '.join(map(repr, lost))}; "
                    f"it has: {', '.join(adata.obs.columns)}."
                )
            values = {name: adata.obs[column].astype(object).copy() for name, column in wanted.items()}
            for name, column in values.items():
                column[column.isin(list(self.missing.get(name, ())))] = np.nan
                adata.obs[name] = column.astype("category")
            if NICHE in values and NICHE_KEY not in values:
                adata.obs[NICHE_KEY] = adata.obs[NICHE]
        return split_slices(wholes, files=self.files)

    def config(self) -> dict[str, Any]:
        """Everything that decides what is read, as plain values."""
        # A study that names no layer is the one it was before studies could: what is done of it stays done.
        return {name: value for name, value in asdict(self).items() if name != "layer" or value is not None}

    def hashes(self, root: Path) -> dict[str, str]:
        """SHA-256 of each file."""
        for file in self.files:
            if not (root / file).is_file():
                raise InputError(f"Study '{self.name}': '{root / file}' is no file.")
        return {file: sha256_of(root / file) for file in self.files}

    def _unit(self, file: str) -> float | None:
        return self.um_per_unit.get(Path(file).stem) if isinstance(self.um_per_unit, Mapping) else self.um_per_unit
