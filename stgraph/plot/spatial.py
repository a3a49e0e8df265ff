"""A slice as one sees it: cells where they lie, coloured by domain; and its graph in two histograms."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from stgraph.errors import InputError
from stgraph.plot.palette import MISSING, as_labels, label_colors, point_colors

INK = "#333333"
_BAR = "#4477aa"


def domain_map(
    pos: ArrayLike,
    labels: ArrayLike,
    *,
    colors: Mapping[str, str] | None = None,
    title: str = "",
    unit: str = "unknown",
    ax: Any = None,
    legend: bool = True,
) -> Figure:
    """Map of a slice, one dot for each cell, coloured by label.

    The y axis points down, as in the image the coordinates come from. Dots are as wide as the
    tissue is dense, in data units, so that it looks filled at any size of slice and figure.

    Parameters
    ----------
    pos
        Positions, (N, 2).
    labels
        Label of each cell, (N,); missing ones (``""``, None, NaN) are light grey.
    colors
        Colour of each label; by default `label_colors` of ``labels``.
    title
        Title of the map, taken literally.
    unit
        Unit of ``pos``. ``"um"`` draws a scale bar, anything else the note "unit unknown".
    ax
        Axes to draw into; by default those of a new figure.
    legend
        List the labels beside the map.

    Returns
    -------
    Figure
        The figure of ``ax``, or a new one.

    Raises
    ------
    InputError
        If there are no cells, shapes do not agree, a position is not finite or a label has no colour.

    Shapes
    ------
    N cells.

    Examples
    --------
    >>> from stgraph.plot import domain_map
    >>> figure = domain_map([[0, 0], [100, 0], [0, 100]], ["1", "1", "2"], unit="um")
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['20 µm']
    """
    xy, names = np.asarray(pos, dtype=np.float64), as_labels(labels)
    if xy.ndim != 2 or xy.shape[1] != 2 or len(xy) == 0 or names.shape != (len(xy),):
        raise InputError(f"A map needs positions (N, 2) and N labels, N > 0; not {xy.shape} and {names.shape}.")
    if not np.isfinite(xy).all():
        raise InputError("A map needs finite positions.")
    colors = label_colors(names) if colors is None else colors
    rgb = point_colors(names, colors)
    if ax is None:
        ax = Figure(figsize=figure_size(xy), layout="compressed").add_subplot()

    width = _dot_width(xy)
    low, span, frame = _frame(xy, width)
    # Missing cells first, so that they never hide a labelled one.
    order = np.argsort(names != "", kind="stable")
    dots = EllipseCollection(
        [width],
        [width],
        [0.0],
        units="xy",
        offsets=xy[order],
        offset_transform=ax.transData,
        facecolors=rgb[order],
        linewidths=0,
        rasterized=True,
    )
    ax.add_collection(dots)
    ax.set_aspect("equal")
    ax.set_xlim(frame[0], frame[1])
    ax.set_ylim(frame[3], frame[2])
    ax.set_axis_off()
    _write_scale(ax, low, span, frame, unit)
    if title:
        ax.set_title(title, fontsize=10, color=INK, loc="left", parse_math=False)
    if legend:
        add_legend(ax, names, colors)
    figure: Figure = ax.figure
    return figure


def figure_size(pos: NDArray[np.float64], *, width: float = 5.2) -> tuple[float, float]:
    """Width and height in inches that suit the extent of a slice, (N, 2) positions."""
    frame = _frame(pos, _dot_width(pos))[2]
    height = width * (frame[3] - frame[2]) / (frame[1] - frame[0])
    return width, float(np.clip(height, 0.25 * width, 1.2 * width))


def add_legend(ax: Any, labels: NDArray[np.str_], colors: Mapping[str, str]) -> None:
    """List the labels that occur beside the axes, in the order of ``colors``."""
    present = {str(label) for label in np.unique(labels)}
    entries = {label: color for label, color in colors.items() if label in present}
    if "" in present:
        entries["no label"] = MISSING
    handles = [
        Line2D([], [], linestyle="", marker="o", markersize=6, color=color, label=label)
        for label, color in entries.items()
    ]
    if not handles:
        return
    # Names go in as they are: matplotlib hides labels that begin with "_" unless handed over explicitly.
    drawn = ax.legend(
        handles,
        list(entries),
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0.0,
        frameon=False,
        fontsize=8,
        labelcolor=INK,
        handletextpad=0.2,
        ncols=-(-len(handles) // 20),
    )
    for text in drawn.get_texts():
        text.set_parse_math(False)


def graph_histograms(degrees: ArrayLike | None, edge_lengths: ArrayLike | None, *, unit: str = "unknown") -> Figure:
    """Histograms of the number of neighbours and of edge lengths, side by side.

    Parameters
    ----------
    degrees
        Number of neighbours of each cell, (N,), or None.
    edge_lengths
        Length of each edge, (E,), or None. The longest half per cent is left off, with a note,
        where it would squeeze the rest.
    unit
        Unit of the lengths, ``"um"`` or ``"unknown"``.

    Returns
    -------
    Figure
        One panel for each of the two that was given.

    Raises
    ------
    InputError
        If both are missing or empty.

    Examples
    --------
    >>> from stgraph.plot.spatial import graph_histograms
    >>> len(graph_histograms([5, 6, 6], [1.0, 1.0, 1.4]).axes)
    2
    """
    counts, lengths = _finite(degrees), _finite(edge_lengths)
    panels = int(len(counts) > 0) + int(len(lengths) > 0)
    if panels == 0:
        raise InputError("There are neither degrees nor edge lengths to show.")
    figure = Figure(figsize=(2.7 * panels, 1.9), layout="constrained")
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    if len(counts):
        ax = axes.pop(0)
        low, high = counts.min(), counts.max()
        # Whole numbers get a bar each, as long as bars can be seen.
        step = max(1, int(np.ceil((high - low + 1) / 40)))
        heights, edges = np.histogram(counts, bins=np.arange(low - 0.5, high + step + 0.5, step))
        _bars(ax, heights, edges, x_label="neighbours of a cell", y_label="cells")
        ax.xaxis.get_major_locator().set_params(integer=True)
    if len(lengths):
        ax = axes.pop(0)
        longest, most = float(lengths.max()), float(np.quantile(lengths, 0.995))
        cut = longest > 1.5 * most > 0
        end = 1.05 * (most if cut else longest) or 1.0
        heights, edges = np.histogram(lengths, bins=40, range=(0.0, end))
        length_unit = "µm" if unit == "um" else "unit unknown"
        _bars(ax, heights, edges, x_label=f"edge length ({length_unit})", y_label="edges")
        if cut:
            longer = f"{(lengths > end).mean():.2%} longer, up to {longest:.4g}"
            ax.set_title(longer, fontsize=7, color=INK, loc="right")
    return figure


def plain_axes(ax: Any) -> None:
    """Light axes: two spines, small grey ticks, no frame."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color("#999999")
    ax.tick_params(labelsize=7, color="#999999", labelcolor=INK, length=2.5)


def _finite(values: ArrayLike | None) -> NDArray[np.float64]:
    array = np.asarray([] if values is None else values, dtype=np.float64)
    return array[np.isfinite(array)]


def _bars(ax: Any, heights: NDArray[Any], edges: NDArray[Any], *, x_label: str, y_label: str) -> None:
    ax.bar(edges[:-1], heights, width=np.diff(edges) * 0.92, align="edge", color=_BAR)
    ax.set_xlabel(x_label, fontsize=8, color=INK)
    ax.set_ylabel(y_label, fontsize=8, color=INK)
    plain_axes(ax)


def _frame(pos: NDArray[np.float64], dot_width: float) -> tuple[NDArray[np.float64], NDArray[np.float64], list[float]]:
    """Low corner, extent and visible frame (left, right, top, bottom) of a slice."""
    low, span = pos.min(axis=0), np.ptp(pos, axis=0)
    reach = float(span.max()) or 1.0
    # A thin or single-cell tissue still needs a frame with an area, with its cells in the middle.
    wide = np.maximum(span, 0.12 * reach) if span.any() else np.ones(2)
    low = low - (wide - span) / 2
    # Room for whole dots at the rim.
    pad = max(0.015 * reach, 0.55 * dot_width)
    # The band below the tissue is for the scale bar, so that the bar never lies on cells.
    frame = [low[0] - pad, low[0] + wide[0] + pad, low[1] - pad, low[1] + wide[1] + pad + 0.09 * reach]
    return low, wide, [float(value) for value in frame]


def _dot_width(pos: NDArray[np.float64]) -> float:
    """Diameter of a dot in data units.

    The third neighbour is one lattice spacing away on square and hexagonal arrays, and near the
    mean spacing in a random tissue, where the nearest one is so close that dots would leave holes.
    """
    reach = float(np.ptp(pos, axis=0).max()) or 1.0
    if len(pos) < 4:
        return 0.05 * reach
    some = pos if len(pos) <= 20_000 else pos[:: len(pos) // 20_000 + 1]
    spacing = float(np.median(cKDTree(pos).query(some, k=4)[0][:, 3]))
    return float(np.clip(1.2 * spacing, 0.001 * reach, 0.13 * reach))


def _write_scale(ax: Any, low: NDArray[np.float64], span: NDArray[np.float64], frame: list[float], unit: str) -> None:
    reach = float(span.max())
    x, y = float(low[0]), frame[3] - 0.045 * reach
    if unit != "um":
        ax.text(x, y, "unit unknown", fontsize=8, style="italic", color="#777777", va="center")
        return
    length = _round_length(0.25 * float(span[0]))
    ax.plot([x, x + length], [y, y], color=INK, linewidth=2.5, solid_capstyle="butt")
    text = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    ax.text(x + length + 0.015 * reach, y, text, fontsize=8, color=INK, va="center")


def _round_length(most: float) -> float:
    """Largest of 1, 2, 5 times a power of ten that is not above ``most``."""
    power = 10.0 ** np.floor(np.log10(most))
    return float(max(step * power for step in (1, 2, 5) if step * power <= most * (1 + 1e-9)))
