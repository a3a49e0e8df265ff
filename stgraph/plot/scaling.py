"""A sweep as one sees it: scores and costs against what was varied."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from stgraph.errors import InputError
from stgraph.plot.palette import palette
from stgraph.plot.spatial import INK, plain_axes

_STYLES = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"), ("-", "v"), ("--", "P"), (":", "X"), ("-.", "*"))
_ACROSS = (
    ("#333333", (1, 1)),
    ("#777777", (5, 2)),
    ("#333333", (6, 2, 1, 2)),
    ("#777777", (1, 3)),
    ("#333333", (10, 3)),
    ("#777777", (6, 2, 1, 2, 1, 2)),
)
"""Grey and dashes of lines across."""

_NARROW = 0.35
"""An interval is drawn beyond all scores by this share of their range, at most."""

_PANELS = {
    "train_seconds_per_1000": ("training, seconds for 1000 cells", 1.0),
    "describe_seconds_per_1000": ("describing, seconds for 1000 cells", 1.0),
    "train_bytes": ("memory of training, MB", 1e-6),
}


def scaling_plot(
    points: pd.DataFrame,
    *,
    x: str,
    lines: Sequence[str] = (),
    label: str = "",
    beside: pd.DataFrame | None = None,
    slices: pd.DataFrame | None = None,
    note: str = "",
) -> Figure:
    """Scores against a setting, with intervals.

    Parameters
    ----------
    points
        ``panel``, which tells panels apart; ``metric``, which y axes are labelled with, if there;
        ``value, low, high``, the ends NaN for no interval; the columns
        ``x`` and ``lines``.
    x
        What scores are drawn against: numbers, on a logarithmic axis if they spread, or texts.
    lines
        Columns that make a line of their own. The first gives the colour, the others the style.
    label
        Of the x axis; ``x`` if empty.
    beside
        ``panel, model, value`` of what has no such setting, as horizontal lines.
    slices
        ``panel, value`` and the columns ``x`` and ``lines`` of single slices, as faint dots.
    note
        What intervals are over, under the figure; that some are cut, or that there are dots, is said with it.

    Returns
    -------
    Figure
        Intervals that reach far beyond all scores are cut at the border of the panel.

    Raises
    ------
    InputError
        If there is nothing to draw.

    Examples
    --------
    >>> import pandas as pd
    >>> from stgraph.plot.scaling import scaling_plot
    >>> points = pd.DataFrame({"panel": "region", "k": [8, 16], "value": [0.5, 0.6], "low": 0.4, "high": 0.7})
    >>> len(scaling_plot(points, x="k").axes)
    1
    """
    points = points[points[x].notna() & points["value"].notna()]
    if points.empty:
        raise InputError(f"There are no scores to draw against '{x}'.")
    panels = list(dict.fromkeys(points["panel"]))
    n_rows = -(-len(panels) // 3)
    n_columns = -(-len(panels) // n_rows)  # four are two and two
    figure = Figure(figsize=(3.4 * n_columns + 1.8, 2.9 * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    places = _Places(points[x])
    looks = _looks(points, lines)
    handles: dict[str, Any] = {}
    cut = dotted = False
    for ax, panel in zip(axes, panels, strict=False):
        here = points[points["panel"] == panel]
        dots = None if slices is None else slices[slices["panel"] == panel]
        for i, (names, group) in enumerate(_groups(here, lines)):
            shift = (i - (len(looks) - 1) / 2) * 0.012
            handles[_name(names)] = _line(ax, group, places, x, shift, looks[names])
            if dots is not None:
                own = np.ones(len(dots), dtype=bool)
                for name, text in zip(lines, names, strict=True):
                    own &= _same(dots, name, text)
                dotted |= bool(own.any())
                at = places(dots.loc[own, x], shift)
                ax.plot(at, dots.loc[own, "value"].astype(float), ".", color=looks[names][0], alpha=0.35, ms=5, mew=0)
        for i, row in enumerate(_besides(beside, panel)):
            grey, dashes = _ACROSS[i % len(_ACROSS)]
            handles[str(row.model)] = ax.axhline(float(row.value), color=grey, lw=1, ls=(0, dashes), zorder=0)
        cut |= _limit(ax, here, dots, [float(row.value) for row in _besides(beside, panel)])
        places.mark(ax, label or x)
        if "metric" in here:
            ax.set_ylabel(", ".join(dict.fromkeys(here["metric"])), fontsize=8, color=INK)
        ax.set_title(str(panel), fontsize=8, color=INK, loc="left", parse_math=False)
        plain_axes(ax)
    for ax in axes[len(panels) :]:
        ax.remove()
    _legend(figure, handles)
    said = (note, "cut at the border" if cut else "", "dots: single slices" if dotted else "")
    if any(said):
        figure.supxlabel("; ".join(filter(None, said)), fontsize=7, color="#777777", x=0.01, ha="left")
    return figure


def cost_plot(points: pd.DataFrame, *, x: str, lines: Sequence[str] = (), label: str = "") -> Figure:
    """Time and memory against a setting, on logarithmic axes: a line of slope 1 costs twice as much for twice as much.

    Parameters
    ----------
    points
        One row for each point: ``train_seconds_per_1000`` and ``describe_seconds_per_1000`` (cells),
        ``train_bytes``, and the columns ``x`` and ``lines``.
    x, lines, label
        As for `scaling_plot`.

    Returns
    -------
    Figure
        A panel for each cost that was measured.

    Raises
    ------
    InputError
        If none was.

    Examples
    --------
    >>> import pandas as pd
    >>> from stgraph.plot.scaling import cost_plot
    >>> points = pd.DataFrame({"k": [8, 16], "train_seconds_per_1000": [1.0, 2.0]})
    >>> points = points.assign(describe_seconds_per_1000=0.1, train_bytes=0.0)
    >>> [ax.get_ylabel() for ax in cost_plot(points, x="k").axes]
    ['training, seconds for 1000 cells', 'describing, seconds for 1000 cells']
    """
    points = points[points[x].notna()]
    shown = [name for name in _PANELS if (pd.to_numeric(points[name]) > 0).any()]
    if not shown:
        raise InputError(f"No cost was measured that could be drawn against '{x}'.")
    figure = Figure(figsize=(3.1 * len(shown) + 1.8, 2.8), layout="constrained")
    places = _Places(points[x])
    looks = _looks(points, lines)
    handles: dict[str, Any] = {}
    for ax, cost in zip(figure.subplots(1, len(shown), squeeze=False).ravel(), shown, strict=True):
        text, factor = _PANELS[cost]
        for names, group in _groups(points, lines):
            values = pd.to_numeric(group[cost]) * factor
            drawn = group.assign(value=values.where(values > 0), low=np.nan, high=np.nan).dropna(subset=["value"])
            if len(drawn):
                handles[_name(names)] = _line(ax, drawn, places, x, 0.0, looks[names])
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda number, _: _short(number)))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.set_ylabel(text, fontsize=8, color=INK)
        places.mark(ax, label or x)
        plain_axes(ax)
    _legend(figure, handles)
    return figure


class _Places:
    """Where values stand on an axis: by their logarithm if they spread, in their order if they are texts."""

    def __init__(self, values: pd.Series) -> None:
        self.numeric = _numeric(values)
        self.values: list[Any] = sorted(set(values)) if self.numeric else list(dict.fromkeys(map(str, values)))
        low, high = (self.values[0], self.values[-1]) if self.numeric else (0, 0)
        self.log = self.numeric and low > 0 and high >= 3 * low

    def __call__(self, values: pd.Series, shift: float = 0.0) -> Any:
        if not self.numeric:
            return np.array([self.values.index(str(value)) for value in values]) + shift
        numbers = values.to_numpy(dtype=np.float64)
        span = float(self.values[-1] - self.values[0]) or 1.0
        return numbers * np.exp(2 * shift) if self.log else numbers + shift * span

    def mark(self, ax: Any, label: str) -> None:
        if not self.numeric:
            ax.set_xticks(range(len(self.values)), self.values)
            ax.set_xlim(-0.4, len(self.values) - 0.6)
        else:
            if self.log:
                ax.set_xscale("log", base=2)
            if len(self.values) <= 8:
                ax.set_xticks([float(v) for v in self.values], [_short(float(v)) for v in self.values])
                ax.minorticks_off()
        ax.set_xlabel(label, fontsize=8, color=INK)


def _looks(points: pd.DataFrame, lines: Sequence[str]) -> dict[tuple[Any, ...], tuple[str, str, str]]:
    """Colour, line and marker of each line."""
    named = [names for names, _ in _groups(points, lines)]
    firsts = list(dict.fromkeys(names[:1] for names in named))
    rests = list(dict.fromkeys(names[1:] for names in named))
    colors = dict(zip(firsts, palette(len(firsts)), strict=True))
    return {names: (colors[names[:1]], *_STYLES[rests.index(names[1:]) % len(_STYLES)]) for names in named}


def _groups(points: pd.DataFrame, lines: Sequence[str]) -> list[tuple[tuple[str, ...], pd.DataFrame]]:
    """Points line by line; numbers in their order, texts as they come."""
    if not lines:
        return [((), points)]
    ranks = []
    for name in lines:
        values = [value for value in dict.fromkeys(points[name]) if not pd.isna(value)]
        texts = [_text(name, value) for value in (sorted(values) if _numeric(points[name]) else values)]
        ranks.append({text: i for i, text in enumerate(["", *texts])})
    named = points.assign(**{name: [_text(name, value) for value in points[name]] for name in lines})
    groups = [
        (tuple(map(str, names)), points.loc[group.index]) for names, group in named.groupby(list(lines), sort=False)
    ]
    return sorted(groups, key=lambda each: [rank[name] for rank, name in zip(ranks, each[0], strict=True)])


def _line(ax: Any, group: pd.DataFrame, places: _Places, x: str, shift: float, look: tuple[str, str, str]) -> Any:
    color, line, marker = look
    at = places(group[x], shift)
    order = np.argsort(at)
    value, low, high = (group[name].to_numpy(dtype=np.float64)[order] for name in ("value", "low", "high"))
    ends = np.nan_to_num(np.stack([value - low, high - value]), nan=0.0).clip(min=0)
    ax.errorbar(at[order], value, yerr=ends, fmt="none", ecolor=color, elinewidth=0.8, alpha=0.55)
    [drawn] = ax.plot(at[order], value, ls=line, marker=marker, color=color, lw=1.3, ms=4, mew=0)
    return drawn


def _limit(ax: Any, points: pd.DataFrame, dots: pd.DataFrame | None, others: list[float]) -> bool:
    """Set the range of y; whether it cuts an interval."""
    seen = [*points["value"], *others, *([] if dots is None else dots["value"].dropna())]
    low, high = float(min(seen)), float(max(seen))
    beyond = _NARROW * max(high - low, 0.05)
    lowest, highest = float(points["low"].min()), float(points["high"].max())
    bottom = max(lowest, low - beyond) if np.isfinite(lowest) else low - beyond
    top = min(highest, high + beyond) if np.isfinite(highest) else high + beyond
    edge = 0.05 * max(high - low, 0.05)
    ax.set_ylim(min(bottom, low) - edge, max(top, high) + edge)
    return bool(lowest < min(bottom, low) - edge or highest > max(top, high) + edge)


def _besides(beside: pd.DataFrame | None, panel: str) -> list[Any]:
    return [] if beside is None else list(beside[beside["panel"] == panel].itertuples())


def _legend(figure: Figure, handles: dict[str, Any]) -> None:
    if named := {name: handle for name, handle in handles.items() if name}:
        figure.legend(
            list(named.values()), list(named), loc="outside right upper", fontsize=7, frameon=False, labelcolor=INK
        )


def _same(points: pd.DataFrame, name: str, text: str) -> Any:
    return np.array([_text(name, value) == text for value in points[name]], dtype=bool)


def _numeric(values: pd.Series) -> bool:
    return all(isinstance(value, int | float | np.number) for value in values if not pd.isna(value))


def _text(name: str, value: Any) -> str:
    """A value in a legend: texts speak for themselves, numbers do not."""
    if pd.isna(value):
        return ""
    return f"{name}={_short(float(value))}" if isinstance(value, int | float | np.number) else str(value)


def _short(number: float) -> str:
    for limit, letter in ((1e6, "M"), (1e3, "k")):
        if abs(number) >= limit:
            return f"{number / limit:.3g}{letter}"
    return f"{number:.4g}"


def _name(names: tuple[str, ...]) -> str:
    return ", ".join(name for name in names if name)
