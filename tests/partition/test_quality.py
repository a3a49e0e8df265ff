import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp

from stgraph.errors import InputError
from stgraph.graph.builders import KNN, Radius
from stgraph.graph.slice_graph import SliceGraph
from stgraph.partition.base import Partition
from stgraph.partition.quality import PartitionQuality, partition_quality


def graph_of(near):
    return SliceGraph("s", None, np.zeros((near.shape[0], 2)), near, None, 1.0, "um")


def test_by_hand():
    """A path of five cells in two parts; the first part is in two pieces."""
    near = sp.csr_matrix(np.eye(5, k=1) + np.eye(5, k=-1))
    found = partition_quality(graph_of(near), Partition.from_membership(np.array([0, 0, 1, 1, 0])))
    assert found == PartitionQuality(
        num_parts=2,
        min_size=2,
        median_size=2.5,
        max_size=3,
        balance=1.2,
        cut_edges=4,
        cut_share=0.5,
        boundary_share=0.8,
        halo_share=(2 / 3 + 2 / 2) / 2,
        disconnected_parts=1,
    )


def brute_force(near, membership):
    seen = [set(near[i].indices.tolist()) for i in range(near.shape[0])]
    parts = [set(np.flatnonzero(membership == p).tolist()) for p in range(membership.max() + 1)]
    sizes = [len(part) for part in parts]
    network = nx.Graph((i, j) for i, others in enumerate(seen) for j in others)
    network.add_nodes_from(range(len(seen)))
    cut = sum(membership[i] != membership[j] for i, others in enumerate(seen) for j in others)
    halos = [len(set().union(*(seen[i] for i in part)) - part) for part in parts]
    return PartitionQuality(
        num_parts=len(parts),
        min_size=min(sizes),
        median_size=float(np.median(sizes)),
        max_size=max(sizes),
        balance=pytest.approx(max(sizes) / (len(seen) / len(parts))),
        cut_edges=cut,
        cut_share=pytest.approx(cut / max(1, near.nnz)),
        boundary_share=pytest.approx(
            sum(any(membership[i] != membership[j] for j in others) for i, others in enumerate(seen)) / len(seen)
        ),
        halo_share=pytest.approx(np.mean([halo / size for halo, size in zip(halos, sizes, strict=True)])),
        disconnected_parts=sum(nx.number_connected_components(network.subgraph(part)) > 1 for part in parts),
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("builder", [KNN(4), KNN(2, symmetric=False), Radius(0.06)])
def test_against_brute_force(seed, builder):
    rng = np.random.default_rng(seed)
    pos = rng.uniform(size=(120, 2))
    pos[::9] = pos[0]
    near = builder(pos)
    membership = Partition.from_membership((pos[:, 0] * rng.integers(1, 9)).astype(int)).membership
    if seed % 2:
        membership = Partition.from_membership(rng.integers(0, 6, 120)).membership
    expected = brute_force(near, membership)
    assert partition_quality(graph_of(near), Partition(membership, expected.num_parts)) == expected


def test_no_edges():
    found = partition_quality(graph_of(sp.csr_matrix((4, 4))), Partition.from_membership(np.array([0, 0, 0, 1])))
    assert (found.cut_edges, found.cut_share, found.boundary_share, found.halo_share) == (0, 0.0, 0.0, 0.0)
    assert found.disconnected_parts == 1


def test_partition_of_another_graph():
    with pytest.raises(InputError, match="one of 3 cells, the graph has 4"):
        partition_quality(graph_of(sp.csr_matrix((4, 4))), Partition.from_membership(np.arange(3)))
