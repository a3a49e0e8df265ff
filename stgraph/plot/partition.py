"""How a slice was cut: its parts on the map, and partitioners side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from stgraph.errors import InputError
from stgraph.graph.slice_graph import SliceGraph
from stgraph.partition.base import Partition
from stgraph.partition.halo import part_with_halo
from stgraph.partition.quality import PartitionQuality
from stgraph.plot.palette import PALETTE, palette
from stgraph.plot.spatial import INK, add_legend, domain_map, plain_axes

_BAR = "#4477aa"


def plot_partition(
    graph: SliceGraph,
    partition: Partition,
    *,
    part: int | None = None,
    num_hops: int = 0,
    title: str | None = None,
    ax: Any = None,
) -> Figure:
    """Map of a slice, cells coloured by part so that parts that touch differ.

    Colours only tell neighbours apart: far from each other, two parts may have the same.

    Parameters
    ----------
    graph
        A slice graph.
    partition
        A partition of its cells.
    part
        Show this part with its halo, and the others faintly; None to show all alike.
    num_hops
        Hops of the halo of ``part``.
    title
        Title of the map; by default the number of parts and their sizes.
    ax
        Axes to draw into; by default those of a new figure.

    Returns
    -------
    Figure
        The figure of ``ax``, or a new one; cells are drawn as an image, whatever the format of the file.

    Raises
    ------
    InputError
        If the partition is one of another number of cells, or there is no such part.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.partition.metis import Metis
    >>> from stgraph.plot.partition import plot_partition
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=400, n_genes=60)[0])
    >>> figure = plot_partition(graph, Metis(part_size=100)(graph), part=0, num_hops=1)
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['part 0', 'halo, 1 hop']
    """
    if len(partition.membership) != len(graph):
        raise InputError(f"The partition is one of {len(partition.membership)} cells, the graph has {len(graph)}.")
    if part is not None and not 0 <= part < partition.num_parts:
        raise InputError(f"The partition has parts 0 to {partition.num_parts - 1}, not {part}.")
    shades = part_shades(graph, partition)
    colors = {str(i): _whiter(color, 0.35) for i, color in enumerate(_colors(int(shades.max()) + 1))}
    names = shades.astype(np.str_)[partition.membership]
    legend: dict[str, str] = {}
    if part is not None:
        legend = {f"part {part}": INK, f"halo, {num_hops} hop{'s' * (num_hops != 1)}": "#e05a00"}
        shown = part_with_halo(graph, partition.cells(part), num_hops)
        names = names.astype(f"<U{max(map(len, legend))}")
        names[shown.cells] = np.where(shown.owned, *legend)
        colors = {name: _whiter(color, 0.6) for name, color in colors.items()} | legend
    if title is None:
        low, high = int(partition.sizes.min()), int(partition.sizes.max())
        sizes = f"{low:,} cells" if low == high else f"{low:,} to {high:,} cells"
        title = f"{partition.num_parts:,} part{'s' * (partition.num_parts != 1)} of {sizes}"
    figure = domain_map(graph.pos, names, colors=colors, title=title, unit=graph.unit, ax=ax, legend=False)
    add_legend(figure.axes[0] if ax is None else ax, names, legend)
    return figure


def plot_partition_quality(qualities: Mapping[str, PartitionQuality]) -> Figure:
    """Partitioners of one slice side by side: what they cut, and how even parts are.

    Parameters
    ----------
    qualities
        Name of each partitioner, taken literally, and the quality of its partition.

    Returns
    -------
    Figure
        One line for each partitioner, from top to bottom in the order given.

    Raises
    ------
    InputError
        If there is none.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.partition.metis import Metis
    >>> from stgraph.partition.quality import partition_quality
    >>> from stgraph.plot.partition import plot_partition_quality
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=400, n_genes=60)[0])
    >>> figure = plot_partition_quality({"METIS": partition_quality(graph, Metis(part_size=100)(graph))})
    >>> [ax.get_title(loc="left") for ax in figure.axes]
    ['edges cut', 'cells at a boundary', 'halo of 1 hop', 'largest / mean part', 'part sizes', 'parts in pieces']
    """
    if not qualities:
        raise InputError("There is no partition quality to show.")
    rows = list(qualities.values())
    figure = Figure(figsize=(11.0, 0.75 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots(1, 6, sharey=True, width_ratios=(1, 1, 1, 1, 1.7, 0.8))
    _bars(axes[0], "edges cut", [quality.cut_share for quality in rows], "{:.1%}")
    _bars(axes[1], "cells at a boundary", [quality.boundary_share for quality in rows], "{:.1%}")
    _bars(axes[2], "halo of 1 hop", [quality.halo_share for quality in rows], "+{:.0%}")
    _bars(axes[3], "largest / mean part", [quality.balance for quality in rows], "{:.2f}", start=1.0)
    _ranges(axes[4], "part sizes", rows)
    _bars(axes[5], "parts in pieces", [quality.disconnected_parts for quality in rows], "{:,}")
    axes[0].set_yticks(range(len(rows)), list(qualities), parse_math=False)
    axes[0].tick_params(axis="y", labelsize=8)
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    return figure


def part_shades(graph: SliceGraph, partition: Partition) -> NDArray[np.int64]:
    """Numbers for the parts of a slice such that parts with an edge between them differ.

    Parameters
    ----------
    graph
        A slice graph; without any edge, the nearest cells count as neighbours.
    partition
        A partition of its cells.

    Returns
    -------
    ndarray
        (P,) int64 from 0, few of them: eight unless a part has more neighbours than that.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.partition.spatial import CoordinateBisection
    >>> from stgraph.plot.partition import part_shades
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=400, n_genes=60)[0])
    >>> len(set(part_shades(graph, CoordinateBisection(part_size=200)(graph)).tolist()))
    2
    """
    touching = _touching(graph, partition)
    shades = np.full(partition.num_parts, -1, dtype=np.int64)
    used = [0] * 8
    for part in np.argsort([-len(others) for others in touching], kind="stable").tolist():
        taken = {int(shades[other]) for other in touching[part]}
        free = [(count, shade) for shade, count in enumerate(used) if shade not in taken]
        # The shade that is rarest so far: all of them are used, so parts a little apart mostly differ, too.
        shade = min(free)[1] if free else len(used)
        if not free:
            used.append(0)
        shades[part] = shade
        used[shade] += 1
    return np.unique(shades, return_inverse=True)[1].astype(np.int64)


def _touching(graph: SliceGraph, partition: Partition) -> list[list[int]]:
    """Parts with an edge from or to each part."""
    near, num_parts = graph.near, partition.num_parts
    of = partition.membership.astype(np.int32)
    if near.nnz:
        one, other = np.repeat(of, np.diff(near.indptr)), of[near.indices]
    else:
        neighbors = cKDTree(graph.pos).query(graph.pos, k=min(7, len(graph)))[1].reshape(len(graph), -1)
        one, other = np.repeat(of, neighbors.shape[1]), of[neighbors.ravel()]
    between = one != other
    pairs = np.unique(one[between].astype(np.int64) * num_parts + other[between])
    touching: list[set[int]] = [set() for _ in range(num_parts)]
    for a, b in zip((pairs // num_parts).tolist(), (pairs % num_parts).tolist(), strict=True):
        touching[a].add(b)
        touching[b].add(a)
    return [sorted(others) for others in touching]


def _colors(n: int) -> list[str]:
    # In the eighth place the palette has a brown too dark for an area.
    return [*PALETTE[:7], "#6d4fc4", *palette(n + 8)[8:]][:n]


def _whiter(color: str, share: float) -> str:
    return str(to_hex([value + share * (1 - value) for value in to_rgb(color)]))


def _bars(ax: Any, title: str, values: Sequence[float], label: str, *, start: float = 0.0) -> None:
    """Horizontal bars from ``start``, each with its value."""
    ax.barh(range(len(values)), np.asarray(values) - start, left=start, height=0.62, color=_BAR)
    reach = max(values) - start or 1.0
    for y, value in enumerate(values):
        ax.text(value + 0.04 * reach, y, label.format(value), fontsize=7, color=INK, va="center")
    ax.set_xlim(start, start + 1.5 * reach)
    _panel(ax, title)
    ax.set_xticks([])
    ax.spines["bottom"].set_visible(False)


def _ranges(ax: Any, title: str, rows: Sequence[PartitionQuality]) -> None:
    """From the smallest part to the largest, with the median."""
    most = max(quality.max_size for quality in rows)
    for y, quality in enumerate(rows):
        ax.plot(
            [quality.min_size, quality.max_size], [y, y], color=_BAR, linewidth=2.5, solid_capstyle="butt", alpha=0.5
        )
        ax.plot([quality.min_size, quality.max_size], [y, y], "|", color=_BAR, markersize=7)
        ax.plot(quality.median_size, y, "o", color=_BAR, markersize=5)
        sizes = f"{quality.min_size:,} – {quality.median_size:,.0f} – {quality.max_size:,}"
        ax.text(1.06 * most, y, sizes, fontsize=7, color=INK, va="center")
    ax.set_xlim(0, 1.9 * most)
    _panel(ax, title)
    # The right half is for the numbers.
    ax.set_xticks([tick for tick in MaxNLocator(3, integer=True).tick_values(0, most) if tick <= most])
    ax.spines["bottom"].set_bounds(0, most)


def _panel(ax: Any, title: str) -> None:
    ax.set_title(title, fontsize=8, color=INK, loc="left")
    plain_axes(ax)
    ax.tick_params(axis="y", length=0)
