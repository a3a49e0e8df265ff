"""How training went."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stgraph.errors import InputError
from stgraph.plot.spatial import INK, plain_axes

NOT_LOSSES = frozenset({"step", "epoch", "lr", "learning_rate", "cells_per_second", "seconds", "time"})
"""Keys of a history row that are not loss terms; every other number is one."""


def loss_curves(history: Sequence[Mapping[str, float]]) -> Figure:
    """One panel for each loss term: every step faintly, and a running median.

    Parameters
    ----------
    history
        One row for each logged step. ``step`` gives the x axis (by default the row number), the keys
        of `NOT_LOSSES` are left out, every other numeric key is a loss term. Rows may lack a term.

    Returns
    -------
    Figure
        Panels in the order in which terms first appear, ``loss`` first. A term whose median falls
        a hundredfold or more gets a logarithmic axis.

    Raises
    ------
    InputError
        If there is no loss to show.

    Examples
    --------
    >>> from stgraph.plot import loss_curves
    >>> figure = loss_curves([{"step": 1, "loss": 2.0, "masked_cell": 1.5}])
    >>> [ax.get_title(loc="left") for ax in figure.axes]
    ['loss', 'masked cell']
    """
    names = loss_names(history)
    if not names:
        raise InputError("The history has no loss to show.")
    n_columns = {1: 1, 2: 2, 4: 2}.get(len(names), 3)
    n_rows = -(-len(names) // n_columns)
    figure = Figure(figsize=(10.2 if n_columns > 1 else 5.1, 2.3 * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for ax, name in zip(axes, names, strict=False):
        _panel(ax, *_series(history, name), name=name)
    for ax in axes[len(names) :]:
        ax.remove()
    return figure


def loss_names(history: Sequence[Mapping[str, float]]) -> list[str]:
    """Loss terms of a history, ``loss`` first, else by first appearance."""
    found = dict.fromkeys(
        key for row in history for key, value in row.items() if key not in NOT_LOSSES and _is_finite(value)
    )
    return sorted(found, key=lambda name: name != "loss")


def _series(history: Sequence[Mapping[str, float]], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    points = [
        (float(row.get("step", i)), float(row[name])) for i, row in enumerate(history) if _is_finite(row.get(name))
    ]
    table = np.array(points, dtype=np.float64)
    return table[:, 0], table[:, 1]


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float | np.number) and bool(np.isfinite(value))


def _panel(ax: Any, steps: NDArray[np.float64], values: NDArray[np.float64], *, name: str) -> None:
    window = max(5, len(values) // 25)
    median = pd.Series(values).rolling(window, center=True, min_periods=1).median().to_numpy()
    ax.plot(steps, values, ".", markersize=3, markeredgewidth=0, color="#4477aa", alpha=0.3, rasterized=True)
    ax.plot(steps, median, color="#224466", linewidth=1.4, marker="o" if len(steps) == 1 else None, markersize=4)
    if values.min() > 0 and median.max() > 100 * median.min():
        ax.set_yscale("log")
    ax.set_title(name.replace("_", " "), fontsize=9, color=INK, loc="left", parse_math=False)
    ax.set_title(f"{median[-1]:.4g}", fontsize=9, color="#224466", loc="right")
    ax.set_xlabel("step", fontsize=8, color=INK)
    ax.xaxis.get_major_locator().set_params(integer=True)
    plain_axes(ax)
