"""A table of single numbers to means over slices and seeds, with intervals, and to differences."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from stgraph.errors import InputError
from stgraph.metrics.intervals import clustered_interval
from stgraph.metrics.ranks import mean_ranks, paired_difference

PRIMARY = ("macro_f1", "ari", "jsd", "gene_pearson", "r2_pooled")
"""Metrics that tables and figures show, the first of these that a task has."""

LOWER_IS_BETTER = frozenset({"jsd", "rmse", "mae", "chaos", "pas"})

SETTING = ("task", "target", "split", "leaks", "shift", "setting")
"""Columns that make one contest: methods are compared within it."""

_VARIANTS = ("n_labels", "clusterer")


def contests(table: pd.DataFrame) -> pd.DataFrame:
    """The primary metric of each task, with what a task varies itself in one column.

    Parameters
    ----------
    table
        From `stgraph.benchmark.run.run_benchmark`.

    Returns
    -------
    DataFrame
        Rows of the primary metric; ``setting`` says, for instance, how many labels were
        learnt from, ``score`` is the value with the sign turned where less is better.

    Examples
    --------
    >>> import pandas as pd
    >>> from stgraph.benchmark.summary import contests
    >>> rows = pd.DataFrame({"task": "region", "metric": ["accuracy", "macro_f1"], "value": [0.9, 0.8]})
    >>> contests(rows)["metric"].tolist()
    ['macro_f1']
    """
    kept = []
    for _, rows in table.groupby("task", sort=False):
        there = set(rows["metric"])
        metric = next((name for name in PRIMARY if name in there), rows["metric"].iloc[0])
        kept.append(rows[rows["metric"] == metric])
    rows = pd.concat(kept, ignore_index=True)
    setting = pd.Series("", index=rows.index)
    for column in _VARIANTS:
        if column in rows:
            text = rows[column].map(lambda v: f"{v:g}" if isinstance(v, int | float) else str(v))
            setting = setting.where(rows[column].isna(), setting + (column.replace("n_", "") + " ") + text)
    sign = np.where(rows["metric"].isin(LOWER_IS_BETTER), -1.0, 1.0)
    return rows.assign(setting=setting, score=rows["value"] * sign)


def contest_names(rows: pd.DataFrame) -> pd.Series:
    """What a person calls the contest of each row.

    Parameters
    ----------
    rows
        With the columns of `SETTING`, and ``metric``.

    Returns
    -------
    Series
        As ``"region, slice, thinned [macro_f1]"``.

    Examples
    --------
    >>> import pandas as pd
    >>> from stgraph.benchmark.summary import SETTING, contest_names
    >>> row = dict(zip(SETTING, ["region", "domain", "random", True, "none", ""])) | {"metric": "macro_f1"}
    >>> contest_names(pd.DataFrame([row])).tolist()
    ['region, random (leaks) [macro_f1]']
    """
    text = rows[list(SETTING)].astype(object)
    text = text.where(text.notna(), "")
    shift = text["shift"].map(lambda name: "" if name in ("", "none") else f", {name}")
    leak = text["leaks"].map(lambda leaks: " (leaks)" if leaks is True else "")
    setting = text["setting"].map(lambda name: f", {name}" if name else "")
    split = text["split"].map(lambda name: f", {name}" if name else "")
    return text["task"] + setting + split + leak + shift + " [" + rows["metric"] + "]"


def means(rows: pd.DataFrame, by: Sequence[str] = ("study", *SETTING, "metric")) -> pd.DataFrame:
    """Mean over slices of the means over seeds, with an interval over slices.

    Parameters
    ----------
    rows
        From `contests`.
    by
        Columns that stay apart, beside ``model``.

    Returns
    -------
    DataFrame
        ``value, low, high, n_slices, n_seeds``; without an interval for one slice.
    """
    out = []
    for names, group in rows.groupby([*by, "model"], sort=False, dropna=False):
        scored = group[group["value"].notna()]
        if scored.empty:
            continue
        slices = scored["study"] + "/" + scored["slice"]
        low, high = clustered_interval(scored["value"], slices)
        value = scored["value"].groupby(slices).mean().mean()
        out.append((*names, value, low, high, slices.nunique(), scored["seed"].nunique()))
    return pd.DataFrame(out, columns=[*by, "model", "value", "low", "high", "n_slices", "n_seeds"])


def against_best(rows: pd.DataFrame, ours: str, simple: Sequence[str]) -> pd.DataFrame:
    """Ours less the best simple method, contest by contest, over slices and seeds in pairs.

    The best is the one of the highest mean over the same slices, known only afterwards: the
    hardest opponent there is.

    Parameters
    ----------
    rows
        From `contests`.
    ours
        A model.
    simple
        Those it is compared with.

    Returns
    -------
    DataFrame
        For each contest the best simple method, both means, the difference with its
        interval, positive where ours is better, and the number of slices.

    Raises
    ------
    InputError
        If a model is not in the table.
    """
    if lost := {ours, *simple} - set(rows["model"]):
        raise InputError(f"The table has no model {', '.join(sorted(lost))}; it has: {', '.join(set(rows['model']))}.")
    out = []
    for names, group in rows.groupby(list(SETTING), sort=False, dropna=False):
        wide = group.assign(place=group["study"] + "/" + group["slice"]).pivot_table(
            index=["place", "seed"], columns="model", values="score", aggfunc="mean"
        )
        others = [name for name in simple if name in wide]
        if ours not in wide or not others:
            continue
        wide = wide[[ours, *others]].dropna()
        if wide.empty:
            continue
        by_slice = wide.groupby("place").mean().mean()
        best = str(by_slice[others].idxmax())
        mean, low, high = paired_difference(wide[ours], wide[best], wide.index.get_level_values("place").to_numpy())
        sign = -1.0 if group["metric"].iloc[0] in LOWER_IS_BETTER else 1.0
        out.append(
            {
                **dict(zip(SETTING, names, strict=True)),
                "metric": group["metric"].iloc[0],
                "best_simple": best,
                "ours": sign * by_slice[ours],
                "simple": sign * by_slice[best],
                "difference": mean,
                "low": low,
                "high": high,
                "n_slices": wide.index.get_level_values("place").nunique(),
            }
        )
    return pd.DataFrame(out)


def ranks(rows: pd.DataFrame) -> tuple[pd.Series, int]:
    """Mean rank of each model over contests on slices, for a diagram of critical differences.

    Parameters
    ----------
    rows
        From `contests`. Splits that leak do not count.

    Returns
    -------
    ranks : Series
        By model; 1 is the best.
    n_blocks : int
        Number of studies: what the critical distance is computed from. Tasks and slices of
        one study are not independent, so they are averaged first.

    Raises
    ------
    InputError
        If no study has scores of all models.
    """
    fair = rows[rows["leaks"].fillna(False).astype(bool) == False]  # noqa: E712  of objects
    keys = [*SETTING, "study", "slice"]
    filled = fair.assign(**{key: fair[key].astype(object).where(fair[key].notna(), "") for key in keys})
    wide = filled.pivot_table(index=keys, columns="model", values="score", aggfunc="mean")
    wide = wide.dropna()
    if wide.empty:
        raise InputError("No slice was scored with all models, so they cannot be ranked.")
    single = pd.DataFrame([mean_ranks(row[None, :]) for row in wide.to_numpy()], index=wide.index, columns=wide.columns)
    by_study = single.groupby(level="study").mean()
    return by_study.mean().sort_values(), len(by_study)
