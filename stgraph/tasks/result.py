"""What every task gives."""

from dataclasses import dataclass, field

import pandas as pd
from anndata import AnnData

COLUMNS = ("task", "target", "split", "leaks", "shift", "slice", "metric", "value", "low", "high", "n_cells")
"""Columns of a tidy table, one row for each number.

``low`` and ``high`` are the ends of a 95 % interval over blocks of the slice, or NaN; ``shift`` says what was done to
the judged slice, or ``"none"``.
"""


@dataclass(repr=False)
class TaskResult:
    """Scores, and slices with the predictions they are of; printed, it shows the means.

    Attributes
    ----------
    table
        One row for each number, with `COLUMNS`; a task may add columns of its own.
    adatas
        By name, copies of the slices with predictions in ``obs`` or ``obsm``.
    notes
        What the user should know: which head was chosen, which cells could not be judged.
    """

    table: pd.DataFrame
    adatas: dict[str, AnnData]
    notes: list[str] = field(default_factory=list)

    def mean(self) -> pd.Series:
        """Each metric, mean over slices; rows that differ in more than the slice are told apart.

        Returns
        -------
        Series
            By metric, and by what else differs between rows.

        Examples
        --------
        >>> import stgraph
        >>> from stgraph.baselines import NeighborPCA
        >>> from stgraph.tasks.annotation import Annotation
        >>> from stgraph.tasks.splits import SpatialBlocks
        >>> slices = {"a": stgraph.synthetic_tissue(n_cells=400, n_genes=60)[0]}
        >>> result = Annotation("domain").run(slices, NeighborPCA(), split=SpatialBlocks())
        >>> result.mean().index.tolist()
        ['accuracy', 'macro_f1', 'weighted_f1', 'mcc', 'auroc']
        """
        apart = [
            column
            for column in self.table.columns
            if column not in {"slice", "metric", "value", "low", "high", "n_cells"}
            and self.table[column].nunique(dropna=False) > 1
        ]
        return self.table.groupby([*apart, "metric"], sort=False, dropna=False)["value"].mean()

    def __repr__(self) -> str:
        notes = f", {len(self.notes)} notes" if self.notes else ""
        return (
            f"TaskResult of {', '.join(self.adatas) or 'no slice'}{notes}; mean over slices:\n{self.mean().to_string()}"
        )
