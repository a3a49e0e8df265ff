"""A table of a sweep, by its axes: what is reached, with what certainty, and at what cost."""

from collections.abc import Sequence

import pandas as pd

from stgraph.benchmark.summary import SETTING, contests, means
from stgraph.errors import InputError
from stgraph.metrics.intervals import mean_interval
from stgraph.metrics.ranks import paired_difference

CONTEST = (*SETTING, "metric")
"""Columns that make one panel of a figure."""

COSTS = (
    "train_seconds_per_1000",
    "describe_seconds_per_1000",
    "train_seconds_total",
    "describe_seconds_total",
    "train_bytes",
    "num_parameters",
)
"""Seconds for 1000 cells, and of all that was trained and described, each once;
bytes are by how much training raised the memory of its process, median of all."""


def scaling(table: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """Scores and costs of the points of a sweep.

    Parameters
    ----------
    table
        From `stgraph.benchmark.run.run_benchmark`, of a grid with axes.
    axes
        Their columns.

    Returns
    -------
    DataFrame
        A row for each contest and point: ``value``, the mean over slices of the mean over seeds; ``low`` and
        ``high``, its interval over what ``interval`` says: ``slices``; or, where there is one slice
        only, ``seeds``, which tells how much training varies and nothing about other tissue; and
        the columns `COSTS`.

    Raises
    ------
    InputError
        If the table is empty or lacks an axis.

    Examples
    --------
    >>> import pandas as pd
    >>> from stgraph.benchmark.scaling import scaling
    >>> rows = {"study": "a", "slice": "a", "task": "region", "target": "domain", "split": "blocks", "leaks": False,
    ...         "shift": "none", "metric": "macro_f1", "model": ["k=8", "k=8", "k=16"], "k": [8, 8, 16],
    ...         "seed": [0, 1, 0], "value": [0.5, 0.7, 0.8], "key": ["1", "2", "3"]}
    >>> scaling(pd.DataFrame(rows), ["k"])[["k", "value", "interval", "n_seeds"]].values.tolist()
    [[8, 0.6, 'seeds', 2], [16, 0.8, '', 1]]
    """
    if table.empty:
        raise InputError("The sweep gave no numbers, so there is nothing to sum up: see failures.csv.")
    if lost := [name for name in axes if name not in table]:
        raise InputError(f"The table has no column {', '.join(lost)}: give axes of the sweep it is of.")
    rows = contests(table)
    rows = rows[rows["value"].notna()]
    by = [*CONTEST, *axes]
    mean = means(rows, by=by)
    mean["interval"] = mean["low"].notna().map({True: "slices", False: ""})
    for i, (_, group) in enumerate(rows.groupby([*by, "model"], sort=False, dropna=False)):  # in the order of means
        values = group.groupby("seed")["value"].mean()
        if mean.at[i, "n_slices"] == 1 and len(values) > 1:
            mean.loc[i, ["low", "high"]] = mean_interval(values)
            mean.at[i, "interval"] = "seeds"
    return mean.merge(_costs(table), on="model", how="left")


def against_first(table: pd.DataFrame, axes: Sequence[str], axis: str) -> pd.DataFrame:
    """What each value of an axis gains on the first one, over slices and seeds in pairs.

    What makes a slice hard makes it hard for every value, so differences are far surer than
    the scores they are taken of.

    Parameters
    ----------
    table, axes
        As for `scaling`.
    axis
        One of ``axes``. Its first value is the smallest; of texts, the one that comes first in the table.

    Returns
    -------
    DataFrame
        ``difference, low, high, n_slices`` of each contest, value and combination of the other axes; positive where
        more is better and the value has more.

    Examples
    --------
    >>> import pandas as pd
    >>> from stgraph.benchmark.scaling import against_first
    >>> rows = {"study": "a", "slice": ["a", "b"] * 2, "task": "region", "target": "domain", "split": "slice",
    ...         "leaks": False, "shift": "none", "metric": "macro_f1", "model": ["k=8"] * 2 + ["k=16"] * 2,
    ...         "k": [8, 8, 16, 16], "seed": 0, "value": [0.2, 0.6, 0.3, 0.7], "key": ["1", "1", "2", "2"]}
    >>> against_first(pd.DataFrame(rows), ["k"], "k")[["k", "difference"]].round(3).values.tolist()
    [[16.0, 0.1]]
    """
    rows = contests(table)
    rows = rows[rows[axis].notna()]
    values = list(dict.fromkeys(rows[axis]))
    if all(isinstance(value, int | float) for value in values):
        values.sort()
    others = [name for name in axes if name != axis]
    found = []
    for names, group in rows.groupby([*CONTEST, *others], sort=False, dropna=False):
        wide = group.assign(place=group["study"] + "/" + group["slice"]).pivot_table(
            index=["place", "seed"], columns=axis, values="score", aggfunc="mean"
        )
        for value in values[1:]:
            if values[0] not in wide or value not in wide:
                continue
            pairs = wide[[values[0], value]].dropna()
            if pairs.empty:
                continue
            places = pairs.index.get_level_values("place")
            difference = paired_difference(pairs[value], pairs[values[0]], places.to_numpy())
            found.append((*names, value, values[0], *difference, places.nunique(), len(pairs)))
    columns = [*CONTEST, *others, axis, "against", "difference", "low", "high", "n_slices", "n_pairs"]
    return pd.DataFrame(found, columns=columns)


def _costs(table: pd.DataFrame) -> pd.DataFrame:
    """Of each model, over its seeds and splits."""
    units = table.drop_duplicates("key").reindex(columns=[*table, *(c for c in _MEASURED if c not in table)])
    found = []
    for model, group in units.groupby("model", sort=False):
        sums = {name: pd.to_numeric(group[name]).sum() for name in _MEASURED[:4]}
        found.append(
            {
                "model": model,
                "train_seconds_per_1000": _thousand(sums["fit_seconds"], sums["fit_cells"]),
                "describe_seconds_per_1000": _thousand(sums["transform_seconds"], sums["transform_cells"]),
                "train_seconds_total": _total(group, "fit_seconds"),
                "describe_seconds_total": _total(group, "transform_seconds"),
                "train_bytes": _median(group["fit_bytes"]),  # the first run of a process loads code too
                "num_parameters": pd.to_numeric(group["num_parameters"]).max(),
            }
        )
    return pd.DataFrame(found, columns=["model", *COSTS])


_MEASURED = ("fit_seconds", "fit_cells", "transform_seconds", "transform_cells", "fit_bytes", "num_parameters")


def _total(units: pd.DataFrame, name: str) -> float:
    """What was done once and used by several units, as two tasks under one split, says the same time in each."""
    seconds = units.assign(seconds=pd.to_numeric(units[name]).round(6)).drop_duplicates(["seed", "seconds"])["seconds"]
    return float(seconds.sum(min_count=1))


def _thousand(seconds: float, cells: float) -> float:
    return 1000 * seconds / cells if cells else float("nan")


def _median(values: pd.Series) -> float:
    known = pd.to_numeric(values).dropna()
    return float(known.median()) if len(known) else float("nan")
