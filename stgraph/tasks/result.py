"""What every task gives."""

from dataclasses import dataclass, field

import pandas as pd
from anndata import AnnData

COLUMNS = ("task", "target", "split", "leaks", "shift", "slice", "metric", "value", "low", "high", "n_cells")
"""Columns of a tidy table, one row for each number.

``low`` and ``high`` are the ends of a 95 % interval over blocks of the slice, or NaN; ``shift`` says what was done to
the judged slice, or ``"none"``.
"""


@dataclass
class TaskResult:
    """Scores, and slices with the predictions they are of.

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
