"""The embedding in two dimensions."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from stgraph.errors import InputError
from stgraph.plot.palette import as_labels, label_colors, point_colors
from stgraph.plot.spatial import INK, add_legend

FEWEST_CELLS = 8
"""Below this many cells UMAP's spectral start has no eigenvectors to take."""


def umap_coordinates(
    x: ArrayLike, *, random_state: int, max_cells: int = 20_000
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Two-dimensional UMAP of an embedding, the same for the same seed.

    Parameters
    ----------
    x
        Embedding, (N, C).
    random_state
        Seed of the sample of cells and of UMAP.
    max_cells
        Above this many cells, a random sample of so many is laid out.

    Returns
    -------
    coords
        Coordinates of the cells used, (M, 2), M = min(N, ``max_cells``). Fewer than eight cells
        have no neighbourhoods to lay out and are shown by their first two principal components.
    index
        Rows of ``x`` that were used, (M,), ascending.

    Raises
    ------
    InputError
        If ``x`` is not a matrix with rows, or not finite, or ``max_cells`` is not positive.

    Shapes
    ------
    N cells, M cells used, C channels.

    References
    ----------
    McInnes, Healy, Melville. UMAP: Uniform Manifold Approximation and Projection. arXiv:1802.03426.

    Examples
    --------
    >>> from stgraph.plot import umap_coordinates
    >>> coords, index = umap_coordinates([[0.0, 1.0, 2.0], [1.0, 0.0, 0.0]], random_state=0)
    >>> coords.shape, index.tolist()
    ((2, 2), [0, 1])
    """
    matrix = np.asarray(x, dtype=np.float32)
    if matrix.ndim != 2 or 0 in matrix.shape or not np.isfinite(matrix).all():
        raise InputError(f"UMAP needs a finite matrix (N, C) with cells and channels, not one of {matrix.shape}.")
    if max_cells < 1:
        raise InputError(f"max_cells must be positive, not {max_cells}.")
    index = np.arange(len(matrix), dtype=np.int64)
    if len(matrix) > max_cells:
        index = np.sort(np.random.default_rng(random_state).choice(index, size=max_cells, replace=False))
    matrix = matrix[index]
    if len(matrix) < FEWEST_CELLS:
        return _principal(matrix), index
    with warnings.catch_warnings():
        # UMAP and numba warn of TensorFlow, of disconnected neighbourhoods and of their own deprecations:
        # nothing the user of a picture could act on.
        warnings.simplefilter("ignore")
        from umap import UMAP  # noqa: PLC0415  (seconds to import)

        model = UMAP(n_neighbors=min(15, len(matrix) - 1), min_dist=0.3, random_state=random_state, n_jobs=1)
        coords = np.asarray(model.fit_transform(matrix), dtype=np.float32)
    return coords, index


def embedding_plot(
    coords: ArrayLike,
    labels: ArrayLike,
    *,
    colors: Mapping[str, str] | None = None,
    title: str = "",
    ax: Any = None,
    legend: bool = True,
    axis_name: str = "UMAP",
) -> Figure:
    """Scatter of cells in two embedding dimensions, coloured by label.

    Parameters
    ----------
    coords
        Coordinates, (M, 2), as `umap_coordinates` gives them.
    labels
        Label of each cell, (M,); missing ones are light grey and lie below the others.
    colors
        Colour of each label; by default `label_colors` of ``labels``.
    title
        Title, taken literally.
    ax
        Axes to draw into; by default those of a new figure.
    legend
        List the labels beside the plot.
    axis_name
        What the axes are called, before their number.

    Returns
    -------
    Figure
        The figure of ``ax``, or a new one.

    Raises
    ------
    InputError
        If shapes do not agree or a label has no colour.

    Examples
    --------
    >>> from stgraph.plot import embedding_plot
    >>> figure = embedding_plot([[0, 0], [1, 1]], ["a", "b"])
    >>> figure.axes[0].get_xlabel()
    'UMAP 1'
    """
    xy, names = np.asarray(coords, dtype=np.float64), as_labels(labels)
    if xy.ndim != 2 or xy.shape[1] != 2 or names.shape != (len(xy),):
        raise InputError(f"A plot needs coordinates (M, 2) and M labels, not {xy.shape} and {names.shape}.")
    colors = label_colors(names) if colors is None else colors
    rgb = point_colors(names, colors)
    if ax is None:
        ax = Figure(figsize=(4.6, 4.0), layout="constrained").add_subplot()
    # In file order the last slice would cover the others; shuffled, none does. Missing ones stay below.
    order = np.random.default_rng(0).permutation(len(xy))
    order = order[np.argsort(names[order] != "", kind="stable")]
    ax.scatter(
        xy[order, 0],
        xy[order, 1],
        c=rgb[order],
        s=float(np.clip(20_000 / max(len(xy), 1), 1.0, 30.0)),
        linewidths=0,
        rasterized=True,
    )
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    ax.set_xlabel(f"{axis_name} 1", fontsize=8, color=INK, loc="left")
    ax.set_ylabel(f"{axis_name} 2", fontsize=8, color=INK, loc="bottom")
    if title:
        ax.set_title(title, fontsize=10, color=INK, loc="left", parse_math=False)
    if legend:
        add_legend(ax, names, colors)
    figure: Figure = ax.figure
    return figure


def _principal(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """First two principal components, (M, 2), zero where there are fewer."""
    u, s, _ = np.linalg.svd(matrix - matrix.mean(axis=0), full_matrices=False)
    scores = (u * s)[:, :2]
    coords = np.zeros((len(matrix), 2), dtype=np.float32)
    coords[:, : scores.shape[1]] = scores
    return coords
