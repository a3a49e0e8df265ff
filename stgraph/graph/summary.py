"""What a slice graph looks like, in numbers."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from stgraph.graph.slice_graph import SliceGraph
from stgraph.graph.spacing import nearest_distances

_QUANTILES = (0.05, 0.5, 0.95)


def degrees(graph: SliceGraph) -> NDArray[np.int64]:
    """Number of neighbours of each cell, (N,)."""
    return np.asarray(np.diff(graph.near.indptr), dtype=np.int64)


def degree_distribution(graph: SliceGraph) -> NDArray[np.int64]:
    """Number of cells by their number of neighbours.

    Parameters
    ----------
    graph
        A slice graph.

    Returns
    -------
    ndarray
        (largest degree + 1,): entry d counts the cells with d neighbours.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.graph.builders import KNN
    >>> from stgraph.graph.summary import degree_distribution
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]
    >>> degree_distribution(stgraph.build_graph(tissue, builder=KNN(4, symmetric=False))).tolist()
    [0, 0, 0, 0, 200]
    """
    return np.bincount(degrees(graph))


def components(graph: SliceGraph) -> NDArray[np.int64]:
    """Connected component of each cell, (N,), the largest first; edges count both ways."""
    label = connected_components(graph.near, directed=False)[1]
    rank = np.empty(label.max() + 1, dtype=np.int64)
    rank[np.argsort(-np.bincount(label), kind="stable")] = np.arange(len(rank))
    return np.asarray(rank[label])


def summarize(graph: SliceGraph) -> dict[str, float | int | str]:
    """Size, degrees, components and edge lengths of a graph.

    Parameters
    ----------
    graph
        A slice graph.

    Returns
    -------
    dict
        One number for each statistic; lengths in the unit of the graph.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.graph.summary import summarize
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0])
    >>> summarize(graph)["cells"]
    200
    """
    degree = degrees(graph)
    sizes = np.bincount(components(graph))
    length = graph.near.data
    low, median, high = np.quantile(degree, _QUANTILES)
    short, typical, long = np.quantile(length, _QUANTILES) if len(length) else (0.0, 0.0, 0.0)
    return {
        "cells": len(graph),
        "edges": int(graph.near.nnz),
        "mean degree": float(degree.mean()),
        "least degree": int(degree.min()),
        "5 % degree": float(low),
        "median degree": float(median),
        "95 % degree": float(high),
        "largest degree": int(degree.max()),
        "isolated cells": int((degree == 0).sum()),
        "components": len(sizes),
        "share of cells in the largest component": float(sizes[0] / len(graph)),
        "virtual cells": 0 if graph.virtual is None else len(graph.virtual),
        "unit": graph.unit,
        "mean nearest neighbour": float(nearest_distances(graph.pos).mean()),
        "median spacing": graph.spacing,
        "5 % edge length": float(short),
        "median edge length": float(typical),
        "95 % edge length": float(long),
        "longest edge": float(length.max()) if len(length) else 0.0,
        "edges between coincident cells": int((length == 0).sum()),
    }
