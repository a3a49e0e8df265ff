import pytest

from stgraph.errors import InputError
from stgraph.graph.build import build_graph
from stgraph.partition.metis import Metis
from stgraph.partition.spatial import CoordinateBisection
from stgraph.testing.partitioners import PartitionerContract


class TestContract(PartitionerContract):
    make = staticmethod(Metis)


def cut(graph, partition):
    near = graph.near.tocoo()
    return (partition.membership[near.row] != partition.membership[near.col]).mean()


def test_cuts_no_more_edges_than_bisection(tissue):
    graph = build_graph(tissue, virtual_cells=None)
    assert cut(graph, Metis(60)(graph)) <= cut(graph, CoordinateBisection(60)(graph)) * 1.05


def test_senseless_part_size():
    with pytest.raises(InputError):
        Metis(0)
