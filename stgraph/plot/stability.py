"""How stable each number of domains is."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stgraph.errors import InputError
from stgraph.plot.spatial import INK, plain_axes

_NEEDED = ("n_domains", "agreement", "low", "high", "reference", "corrected", "next_agreement")
_REAL, _NONE, _NEXT = "#0072b2", "#999999", "#e69f00"


def stability_curve(
    table: pd.DataFrame, *, suggested: int | None = None, annotated: int | None = None, title: str = ""
) -> Figure:
    """Agreement of subsamples on each number of domains, beside data without clusters.

    Left: the agreement with its interval, that of the reference, and that of each number
    with the next. Right: the agreement corrected by the reference, which is what a number
    is suggested by.

    Parameters
    ----------
    table
        As in `stgraph.tasks.stability.Suggestion`.
    suggested
        Number to mark.
    annotated
        Number of annotated domains to mark, if there is an annotation.
    title
        Of the figure.

    Returns
    -------
    Figure
        Two panels.

    Raises
    ------
    InputError
        If the table has no rows or lacks a column.

    Examples
    --------
    >>> import pandas as pd
    >>> from stgraph.plot.stability import stability_curve
    >>> row = {"agreement": 0.8, "low": 0.7, "high": 0.9, "reference": 0.5, "corrected": 0.6, "next_agreement": 0.7}
    >>> figure = stability_curve(pd.DataFrame([{"n_domains": n, **row} for n in (2, 3)]), suggested=3)
    >>> [ax.get_title(loc="left") for ax in figure.axes]
    ['agreement of subsamples', 'corrected for chance']
    """
    lost = [column for column in _NEEDED if column not in table]
    if lost or not len(table):
        raise InputError(f"A stability curve needs a table with rows and the columns {', '.join(_NEEDED)}.")
    table = table.sort_values("n_domains")
    n = table["n_domains"].to_numpy()
    figure = Figure(figsize=(8.4, 3.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.fill_between(n, table["low"], table["high"], color=_REAL, alpha=0.2, linewidth=0)
    left.plot(n, table["agreement"], "o-", color=_REAL, markersize=4, linewidth=1.4, label="two subsamples")
    left.plot(n, table["reference"], "o--", color=_NONE, markersize=3, linewidth=1, label="data without clusters")
    left.plot(n + 0.5, table["next_agreement"], "_", color=_NEXT, markersize=9, mew=1.6, label="with one more domain")
    left.set_ylabel("adjusted Rand index", fontsize=8, color=INK)
    left.set_title("agreement of subsamples", fontsize=9, color=INK, loc="left")
    ends = [(table[end] - table["reference"]) / np.maximum(1 - table["reference"], 1e-9) for end in ("low", "high")]
    right.fill_between(n, *ends, color=_REAL, alpha=0.2, linewidth=0)
    right.plot(n, table["corrected"], "o-", color=_REAL, markersize=4, linewidth=1.4)
    right.axhline(0, color=_NONE, linewidth=0.8)
    # Far below zero there is nothing to tell apart.
    right.set_ylim(min(0.0, float(table["corrected"].min())) - 0.05, 1.02)
    right.set_title("corrected for chance", fontsize=9, color=INK, loc="left")
    marks = [(suggested, "suggested", ":", "#224466"), (annotated, "annotated", "-.", "#d55e00")]
    for number, name, style, color in marks:
        if number is not None:
            left.axvline(number, color=color, linewidth=1, linestyle=style)
            right.axvline(number, color=color, linewidth=1, linestyle=style, label=f"{name}: {number}")
    for ax in (left, right):
        ax.set_xlabel("number of domains", fontsize=8, color=INK)
        ax.set_xticks(n if len(n) <= 20 else n[:: -(-len(n) // 20)])
        plain_axes(ax)
    left.set_ylim(min(0.0, float(np.nanmin(table[["low", "reference", "next_agreement"]]))) - 0.02, 1.02)
    for ax in (left, right):
        if ax.get_legend_handles_labels()[0]:
            ax.legend(
                fontsize=7,
                frameon=False,
                labelcolor=INK,
                loc="upper left",
                bbox_to_anchor=(-0.02, -0.2),
                ncols=3,
                columnspacing=1.2,
            )
    if title:
        figure.suptitle(title, fontsize=10, color=INK, x=0.01, ha="left", parse_math=False)
    return figure
