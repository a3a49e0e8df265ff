import numpy as np
import pytest
import scipy.sparse as sp

import stgraph
from stgraph.graph.builders import KNN, Radius
from stgraph.graph.edges import edges_to_csr
from stgraph.graph.slice_graph import SliceGraph
from stgraph.graph.summary import components, degree_distribution, degrees, summarize


def graph_of(pos, row, col):
    pos = np.asarray(pos, dtype=float)
    near = edges_to_csr(pos, np.asarray(row, dtype=int), np.asarray(col, dtype=int), symmetric=True)
    return SliceGraph("a", np.ones((len(pos), 1), dtype=np.float32), pos, near, None, 1.0, "um")


def test_by_hand():
    """A path of three, a coincident pair, and a cell alone."""
    graph = graph_of([[9, 9], [9, 9], [50, 50], [0, 0], [3, 0], [3, 4]], [3, 4, 0], [4, 5, 1])
    assert degrees(graph).tolist() == [1, 1, 0, 1, 2, 1]
    assert degree_distribution(graph).tolist() == [1, 4, 1]
    assert components(graph).tolist() == [1, 1, 2, 0, 0, 0]  # the largest first; the coincident pair is one
    assert summarize(graph) == {
        "cells": 6,
        "edges": 6,
        "mean degree": 1.0,
        "least degree": 0,
        "5 % degree": 0.25,
        "median degree": 1.0,
        "95 % degree": 1.75,
        "largest degree": 2,
        "isolated cells": 1,
        "components": 3,
        "share of cells in the largest component": 0.5,
        "virtual cells": 0,
        "unit": "um",
        # of the five places: 3, 3, 4, (9, 9) to (3, 4) and (50, 50) to (9, 9)
        "mean nearest neighbour": pytest.approx((3 + 3 + 4 + np.hypot(6, 5) + np.hypot(41, 41)) / 5),
        "median spacing": 1.0,
        "5 % edge length": 0.0,
        "median edge length": 3.0,
        "95 % edge length": 4.0,
        "longest edge": 4.0,
        "edges between coincident cells": 2,
    }


def test_edges_of_one_direction_connect():
    pos = np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 4.0], [9.0, 9.0]])
    near = edges_to_csr(pos, np.array([0, 2]), np.array([1, 1]), symmetric=False)
    graph = SliceGraph("a", np.ones((4, 1), dtype=np.float32), pos, near, None, 1.0, "um")
    assert components(graph).tolist() == [0, 0, 0, 1]


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
    assert found["edges between coincident cells"] == 0
