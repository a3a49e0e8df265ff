"""A benchmark as one sees it: a heat map of scores, and which methods are told apart."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from stgraph.errors import InputError
from stgraph.metrics.ranks import cliques
from stgraph.plot.palette import label_colors
from stgraph.plot.spatial import INK, domain_map

_SCALE = LinearSegmentedColormap.from_list("scores", ["#f7f7f7", "#9ecae1", "#2171b5", "#08306b"])


def score_heatmap(scores: pd.DataFrame, *, lower_is_better: Sequence[str] = ()) -> Figure:
    """Scores of models, one row for each contest and one column for each model.

    Colours run from the worst to the best of a row, for rows have different metrics; the
    best of a row is set in bold.

    Parameters
    ----------
    scores
        (rows, models) values; NaN where a model did not run.
    lower_is_better
        Labels of the rows in which less is better.

    Returns
    -------
    Figure
        The heat map.

    Raises
    ------
    InputError
        If there is nothing to show.

    Examples
    --------
    >>> import pandas as pd
    >>> from stgraph.plot.benchmark import score_heatmap
    >>> figure = score_heatmap(pd.DataFrame({"pca": [0.5, 0.7], "ours": [0.6, 0.7]}, index=["a", "b"]))
    >>> len(figure.axes[0].texts)
    4
    """
    if scores.empty:
        raise InputError("There are no scores to draw.")
    values = scores.to_numpy(dtype=np.float64)
    turned = np.where(np.isin(scores.index, list(lower_is_better))[:, None], -values, values)
    with np.errstate(invalid="ignore"):
        low = np.nanmin(np.where(np.isnan(turned), np.inf, turned), axis=1, keepdims=True)
        high = np.nanmax(np.where(np.isnan(turned), -np.inf, turned), axis=1, keepdims=True)
    shade = (turned - low) / np.maximum(high - low, 1e-9)
    width = 2.2 + 0.055 * max(len(str(label)) for label in scores.index) + 0.62 * len(scores.columns)
    figure = Figure(figsize=(width, 1.4 + 0.24 * len(scores)), layout="constrained")
    ax = figure.subplots()
    ax.imshow(np.ma.masked_invalid(shade), cmap=_SCALE, vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(*values.shape):
        value = values[row, column]
        if np.isnan(value):
            continue
        best = turned[row, column] >= high[row, 0] - 5e-4
        ax.text(
            column,
            row,
            f"{value:.2f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.2f}",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if shade[row, column] > 0.55 else INK,
            fontweight="bold" if best else "normal",
        )
    ax.set_xticks(
        range(len(scores.columns)), [str(name) for name in scores.columns], rotation=40, ha="left", fontsize=7
    )
    ax.set_yticks(range(len(scores)), [str(name) for name in scores.index], fontsize=7)
    ax.xaxis.tick_top()
    ax.tick_params(length=0, colors=INK)
    ax.spines[:].set_visible(False)
    return figure


def critical_difference_plot(ranks: Mapping[str, float], distance: float) -> Figure:
    """Mean ranks of methods, with a bar over those that are not told apart (Demsar 2006).

    Parameters
    ----------
    ranks
        Mean rank of each method; 1 is the best.
    distance
        Critical difference, from `stgraph.metrics.ranks.nemenyi_distance`.

    Returns
    -------
    Figure
        The diagram, the best on the left.

    Raises
    ------
    InputError
        If there are fewer than two methods.

    Examples
    --------
    >>> from stgraph.plot.benchmark import critical_difference_plot
    >>> figure = critical_difference_plot({"ours": 1.2, "pca": 2.8, "other": 2.0}, distance=1.0)
    >>> len(figure.axes)
    1
    """
    if len(ranks) < 2:
        raise InputError("A diagram of critical differences needs at least two methods.")
    names = sorted(ranks, key=lambda name: ranks[name])
    values = [float(ranks[name]) for name in names]
    groups = cliques(values, distance)
    n = len(names)
    half = (n + 1) // 2
    figure = Figure(figsize=(8.6, 1.3 + 0.2 * half + 0.12 * len(groups)), layout="constrained")
    ax = figure.subplots()
    top, step, bars = 0.0, 1.0, 0.55
    first, last = 1.0, float(n)
    ax.plot([first, last], [top, top], color=INK, lw=1)
    for tick in range(1, n + 1):
        ax.plot([tick, tick], [top, top + 0.25], color=INK, lw=1)
        ax.text(tick, top + 0.4, str(tick), ha="center", va="bottom", fontsize=8, color=INK)
    start = top - 0.5 - bars * len(groups)
    for i, (name, value) in enumerate(zip(names, values, strict=True)):
        left = i < half
        y = start - step * ((i if left else n - 1 - i) + 0.5)
        x = first - 0.3 if left else last + 0.3
        ax.plot([value, value, x], [top, y, y], color=INK, lw=0.7)
        ax.text(
            x + (-0.1 if left else 0.1),
            y,
            f"{name} ({value:.1f})",
            ha="right" if left else "left",
            va="center",
            fontsize=8,
            color=INK,
        )
    for i, group in enumerate(groups):
        y = top - 0.45 - bars * i
        ax.plot(
            [values[group[0]] - 0.04, values[group[-1]] + 0.04], [y, y], color="#b2182b", lw=3, solid_capstyle="butt"
        )
    shown = min(distance, last - first)
    ax.plot([first, first + shown], [top + 1.8, top + 1.8], color=INK, lw=1)
    note = "" if distance <= last - first else ", more than all ranks: no two are told apart"
    ax.text(first, top + 2.0, f"critical difference {distance:.1f}{note}", fontsize=8, va="bottom", color=INK)
    ax.set_xlim(first - 0.45 * n, last + 0.45 * n)
    ax.axis("off")
    return figure


def prediction_maps(cells: pd.DataFrame, *, title: str = "", unit: str = "unknown") -> Figure:
    """Truth, prediction and error of one slice, side by side.

    Parameters
    ----------
    cells
        ``x, y, truth, predicted`` of each cell; empty where there is none.
    title
        Over the first map.
    unit
        Of the positions.

    Returns
    -------
    Figure
        Three maps; where something is missing the cell is light grey.

    Examples
    --------
    >>> import pandas as pd
    >>> from stgraph.plot.benchmark import prediction_maps
    >>> cells = {"x": [0.0, 1.0], "y": [0.0, 0.0], "truth": ["a", "b"], "predicted": ["a", "a"]}
    >>> len(prediction_maps(pd.DataFrame(cells)).axes)
    3
    """
    pos = cells[["x", "y"]].to_numpy(dtype=np.float64)
    truth, said = (
        cells[name].astype(object).where(cells[name].notna(), "").to_numpy() for name in ("truth", "predicted")
    )
    colors = label_colors([*truth, *said])
    judged = (truth != "") & (said != "")
    error = np.where(judged, np.where(truth == said, "right", "wrong"), "")
    extent = np.ptp(pos, axis=0)
    height = 3.4 * float(np.clip(extent[1] / max(extent[0], 1e-9), 0.45, 1.6))
    figure = Figure(figsize=(13, height + 0.5), layout="constrained")
    axes = figure.subplots(1, 3)
    domain_map(pos, truth, colors=colors, title=title or "annotated", unit=unit, ax=axes[0], legend=False)
    domain_map(pos, said, colors=colors, title="predicted", unit=unit, ax=axes[1])
    share = (truth == said)[judged].mean() if judged.any() else float("nan")
    marks = {"right": "#c6dbef", "wrong": "#cb181d"}
    domain_map(pos, error, colors=marks, title=f"{share:.0%} right", unit=unit, ax=axes[2])
    return figure
