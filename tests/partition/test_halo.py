import networkx as nx
import numpy as np
import pytest

from stgraph.graph.build import build_graph
from stgraph.graph.builders import KNN
from stgraph.partition.halo import halo


@pytest.mark.parametrize("num_hops", [0, 1, 2, 3])
def test_halo_is_what_a_search_finds(tissue, num_hops):
    graph = build_graph(tissue, builder=KNN(5), virtual_cells=None)
    cells = np.array([0, 17, 100])
    network = nx.from_scipy_sparse_array(graph.near)
    reached = set().union(*(nx.single_source_shortest_path_length(network, c, num_hops) for c in cells))
    assert set(halo(graph, cells, num_hops)) == reached - set(cells)
