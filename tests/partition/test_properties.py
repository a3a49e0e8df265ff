"""Any partitioner on any tissue."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from stgraph.graph.builders import KNN
from stgraph.graph.slice_graph import SliceGraph
from stgraph.partition.communities import Communities
from stgraph.partition.halo import part_with_halo
from stgraph.partition.metis import Metis
from stgraph.partition.quality import partition_quality
from stgraph.partition.space_filling import SpaceFillingCurve
from stgraph.partition.spatial import CoordinateBisection
from stgraph.partition.subgraph import induced
from stgraph.partition.tiles import SquareTiles
from stgraph.testing.partitioners import check_partition

PARTITIONERS = [CoordinateBisection, SpaceFillingCurve, SquareTiles, Metis, Communities]


@st.composite
def tissues(draw):
    """Random, clustered, collinear, coincident and lattice cells; tiny and huge coordinates; any usual graph."""
    n = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pos = rng.uniform(-1, 1, (n, 2))
    kind = draw(st.sampled_from(["random", "clustered", "line", "lattice", "coincident"]))
    if kind == "clustered":
        pos = pos**9
    if kind == "line":
        pos[:, draw(st.integers(0, 1))] = pos[0, 0]
    if kind == "lattice":
        pos = np.round(pos * 3)
    if kind == "coincident":
        pos[: n // 2] = pos[0]
    pos = pos * 10.0 ** draw(st.integers(-12, 12)) + 10.0 ** draw(st.integers(-12, 12))
    k = draw(st.integers(0, 5))
    near = KNN(k, symmetric=draw(st.booleans()))(pos) if 0 < k < n else sp.csr_matrix((n, n))
    return SliceGraph("s", np.zeros((n, 1), dtype=np.float32), pos, near, None, 1.0, "unknown")


@pytest.mark.parametrize("partitioner", PARTITIONERS)
@settings(max_examples=60, deadline=None)
@given(graph=tissues(), part_size=st.integers(1, 70))
def test_promises(partitioner, graph, part_size):
    cut = partitioner(part_size)
    partition = cut(graph)
    check_partition(graph, partition, max_size=cut.max_size)
    assert 0 <= partition_quality(graph, partition).cut_share <= 1


@settings(max_examples=60, deadline=None)
@given(graph=tissues(), part_size=st.integers(1, 70), num_hops=st.integers(0, 3))
def test_parts_with_halo_hold_every_edge_once(graph, part_size, num_hops):
    """With a hop or more, each edge is in the part that owns the cell that sees along it."""
    partition = SpaceFillingCurve(part_size)(graph)
    edges = 0
    for part in range(partition.num_parts):
        wider = part_with_halo(graph, partition.cells(part), num_hops)
        near = induced(graph.near, wider.cells)
        edges += int(np.diff(near.indptr)[wider.owned].sum())
        assert num_hops > 0 or not wider.context.any()
    if num_hops:
        assert edges == graph.near.nnz
    else:
        assert edges == graph.near.nnz - partition_quality(graph, partition).cut_edges
