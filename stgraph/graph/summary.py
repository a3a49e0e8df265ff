"""What a slice graph looks like, in numbers."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from stgraph.graph.slice_graph import SliceGraph


def degrees(graph: SliceGraph) -> NDArray[np.int64]:
    """Number of neighbours of each cell, (N,)."""
    return np.asarray(np.diff(graph.near.indptr), dtype=np.int64)


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
    length = graph.near.data
    # csgraph takes an explicit zero for no edge; here it is one between coincident cells.
    pattern = graph.near.copy()
    pattern.data = np.ones_like(length)
    components = connected_components(pattern, directed=False, return_labels=False)
    return {
        "cells": len(graph),
        "edges": int(graph.near.nnz),
        "mean degree": float(degree.mean()),
        "least degree": int(degree.min()),
        "largest degree": int(degree.max()),
        "isolated cells": int((degree == 0).sum()),
        "components": int(components),
        "virtual cells": 0 if graph.virtual is None else len(graph.virtual),
        "unit": graph.unit,
        "median spacing": graph.spacing,
        "median edge length": float(np.median(length)) if len(length) else 0.0,
        "longest edge": float(length.max()) if len(length) else 0.0,
    }
