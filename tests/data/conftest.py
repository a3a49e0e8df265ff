"""Slices with all kinds of nodes, and a comparison to the bit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from stgraph.graph.build import build_graph
from stgraph.graph.builders import KNN
from stgraph.graph.virtual_cells import aggregate


def same(first, second, skip=()):
    assert first.node_types == second.node_types
    assert first.edge_types == second.edge_types
    for one, other in zip(first.stores, second.stores, strict=True):
        assert set(one.keys()) - set(skip) == set(other.keys()) - set(skip)
        for key, value in one.items():
            if key in skip:
                continue
            if isinstance(value, torch.Tensor):
                assert value.dtype == other[key].dtype, (one._key, key)
                assert torch.equal(value, other[key]), (one._key, key)
            else:
                assert value == other[key], (one._key, key)


@pytest.fixture(scope="session")
def assert_same():
    """Two `HeteroData` have the same types in the same order, and the same attributes to the bit."""
    return same


@pytest.fixture
def layered(tissue):
    """A slice with three levels of virtual cells."""
    graph = build_graph(tissue, builder=KNN(6))
    above = aggregate(np.arange(len(graph.virtual)) % 3, graph.virtual.x, graph.virtual.pos)
    above = replace(above, parent=aggregate(np.zeros(3, dtype=np.int64), above.x, above.pos))
    return replace(graph, virtual=replace(graph.virtual, parent=above))
