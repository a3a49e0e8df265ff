import numpy as np
import pytest
import scipy.sparse as sp

import stgraph
from stgraph.graph.builders import KNN, Radius, edges_to_csr
from stgraph.graph.slice_graph import SliceGraph
from stgraph.graph.summary import degrees, summarize


def graph_of(pos, row, col):
    pos = np.asarray(pos, dtype=float)
    near = edges_to_csr(pos, np.asarray(row, dtype=int), np.asarray(col, dtype=int), symmetric=True)
    return SliceGraph("a", np.ones((len(pos), 1), dtype=np.float32), pos, near, None, 1.0, "um")


def test_by_hand():
    """A path of three, a coincident pair, and a cell alone."""
    graph = graph_of([[0, 0], [3, 0], [3, 4], [9, 9], [9, 9], [50, 50]], [0, 1, 3], [1, 2, 4])
    assert degrees(graph).tolist() == [1, 2, 1, 1, 1, 0]
    assert summarize(graph) == {
        "cells": 6,
        "edges": 6,
        "mean degree": 1.0,
        "least degree": 0,
        "largest degree": 2,
        "isolated cells": 1,
        "components": 3,  # the coincident pair is one
        "virtual cells": 0,
        "unit": "um",
        "median spacing": 1.0,
        "median edge length": 3.0,
        "longest edge": 4.0,
    }
    assert graph.near.data.min() == 0  # and the zero is still an edge


def test_no_edges():
    found = summarize(graph_of([[0, 0], [3, 0]], [], []))
    assert (found["edges"], found["components"], found["longest edge"]) == (0, 2, 0.0)


@pytest.mark.parametrize("builder", [KNN(4), KNN(4, symmetric=False), Radius(25.0)])
def test_of_a_tissue(tissue, builder):
    graph = stgraph.build_graph(tissue, builder=builder)
    found = summarize(graph)
    assert found["mean degree"] == pytest.approx(found["edges"] / found["cells"])
    assert found["virtual cells"] == len(graph.virtual)
    dense = np.zeros(graph.near.shape)
    dense[np.repeat(np.arange(len(graph)), np.diff(graph.near.indptr)), graph.near.indices] = 1
    n_components = sp.csgraph.connected_components(dense, directed=False)[0]
    assert found["components"] == n_components
