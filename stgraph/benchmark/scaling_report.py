"""The tables and figures of a sweep, from its one table."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from stgraph._files import atomic_path
from stgraph.benchmark.scaling import CONTEST, against_first, scaling
from stgraph.benchmark.summary import contest_names, contests
from stgraph.errors import InputError
from stgraph.plot.scaling import cost_plot, scaling_plot


def write_scaling(
    table: pd.DataFrame,
    axes: Sequence[str],
    out: Path,
    *,
    against: str | None,
    size: str | None = None,
    beside: Sequence[str] = (),
) -> list[Path]:
    """Write what a sweep found.

    Parameters
    ----------
    table
        From `stgraph.benchmark.run.run_benchmark`, of a grid with axes.
    axes
        Their columns.
    out
        Folder for the files.
    against
        The axis that scores and costs are drawn against; None for none.
    size
        The axis that makes models larger: scores are drawn against their weights, or against it where
        weights are not known. None for none.
    beside
        Models that are no points, and are drawn as lines across; what has no axis at all is one anyway.

    Returns
    -------
    list of Path
        ``scaling.csv``; with ``against`` ``differences.csv``, and ``metric_AGAINST``, ``cost_AGAINST``; with ``size``
        ``metric_SIZE``; figures as png and svg. One that has nothing to draw is not written.

    Raises
    ------
    InputError
        If the table is empty, or has no such axis.
    """
    if unknown := [name for name in (against, size) if name is not None and name not in axes]:
        raise InputError(f"draw: '{unknown[0]}' is no axis of this sweep; there are: {', '.join(axes)}.")
    points = _labelled(scaling(table, axes))
    single = _labelled(_slices(table, axes))
    swept = points[list(axes)].notna().any(axis=1) & ~points["model"].isin(beside)
    across = points[~swept]
    written = [_csv(points.drop(columns="panel"), out / "scaling.csv")]
    note = _note(points[swept])
    if against is not None and points[against].notna().any():
        written.append(_csv(against_first(table, axes, against), out / "differences.csv"))
        lines = _lines(points[swept & points[against].notna()], axes, against)
        written += _figure(
            scaling_plot(
                points[swept], x=against, lines=lines, label=_label(against), beside=across, slices=single, note=note
            ),
            out / f"metric_{_file(against)}",
        )
        models = points[swept].drop_duplicates("model")
        if (models["train_seconds_per_1000"].fillna(0) > 0).any():
            written += _figure(
                cost_plot(models, x=against, lines=lines, label=_label(against)), out / f"cost_{_file(against)}"
            )
    if size is not None and points[size].notna().any():
        sized = points[swept & points[size].notna()]
        known = sized["num_parameters"].notna().any()
        x, label = ("num_parameters", "number of weights") if known else (size, size)
        shown = sized[sized[x].notna()]
        written += _figure(
            scaling_plot(shown, x=x, lines=_lines(shown, axes, size), label=label, beside=across, note=note),
            out / f"metric_{_file(size)}",
        )
    return written


def _slices(table: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """Means over seeds, slice by slice; none where there is one slice, whose dots would be the means themselves."""
    rows = contests(table)
    keys = [*CONTEST, *axes, "study", "slice"]
    means = rows.groupby(keys, sort=False, dropna=False)["value"].mean().reset_index()
    several = means[["study", "slice"]].drop_duplicates().shape[0] > 1
    return means if several else means.iloc[:0]


def _labelled(rows: pd.DataFrame) -> pd.DataFrame:
    """With the panel each row is drawn in."""
    return rows.assign(panel=contest_names(rows))


def _lines(points: pd.DataFrame, axes: Sequence[str], x: str) -> list[str]:
    """Axes that tell lines apart; the one of fewest values first, for it gives the colour."""
    found = [name for name in axes if name != x and points[name].nunique(dropna=False) > 1]
    return sorted(found, key=lambda name: points[name].map(lambda value: isinstance(value, int | float)).any())


def _note(points: pd.DataFrame) -> str:
    over = [name for name in ("slices", "seeds") if (points["interval"] == name).any()]
    if not over:
        return "no intervals: one slice and one seed"
    said = {"slices": "slices", "seeds": "seeds, on one slice: they say nothing about other tissue"}
    return f"bars: 95 % intervals over {' or '.join(said[name] for name in over)}"


def _label(axis: str) -> str:
    return "neighbours k" if axis == "k" else axis


def _file(axis: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in axis)


def _figure(figure: Figure, path: Path) -> list[Path]:
    written = []
    for suffix in ("png", "svg"):
        with atomic_path(path.with_name(f"{path.name}.{suffix}")) as tmp:
            figure.savefig(tmp, dpi=150)
        written.append(path.with_name(f"{path.name}.{suffix}"))
    return written


def _csv(table: pd.DataFrame, path: Path) -> Path:
    with atomic_path(path) as tmp:
        table.to_csv(tmp, index=False, float_format="%.5g")
    return path
