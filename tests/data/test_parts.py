import numpy as np
import torch

from stgraph.data.convert import NEAR, to_hetero_data
from stgraph.data.parts import PartDataset, part_data
from stgraph.graph.build import build_graph
from stgraph.graph.builders import KNN
from stgraph.partition.halo import halo
from stgraph.partition.spatial import CoordinateBisection


def test_parts_own_every_cell_once_and_carry_all_virtual_cells(slices):
    graphs = [build_graph(adata, builder=KNN(6)) for adata in slices]
    dataset = PartDataset(graphs, CoordinateBisection(80), num_hops=1)
    assert len(dataset) == 8
    assert all((~part["cell"].owned).any() for part in dataset.parts)
    bare = PartDataset(graphs, CoordinateBisection(80), num_hops=0)
    assert all(part["cell"].owned.all() for part in bare.parts)
    for graph in graphs:
        own = [dataset[i] for i in range(len(dataset)) if dataset.slice_of[i] == graph.slice_id]
        owned = torch.cat([part["cell"].index[part["cell"].owned] for part in own])
        assert owned.sort().values.tolist() == list(range(len(graph)))
        for part in own:
            assert part["virtual"].num_nodes == len(graph.virtual)
            torch.testing.assert_close(part["cell"].x, torch.from_numpy(graph.x)[part["cell"].index])


def test_owned_cells_keep_all_their_neighbours(tissue):
    graph = build_graph(tissue, builder=KNN(6))
    owned = np.arange(40, 90)
    part = part_data(to_hetero_data(graph), owned, halo(graph, owned, 1))
    index = part["cell"].index.numpy()
    source, target = part[NEAR].edge_index.numpy()
    assert part["cell"].owned.sum() == 50
    for local in np.flatnonzero(part["cell"].owned.numpy()):
        np.testing.assert_array_equal(np.sort(index[source[target == local]]), graph.near[index[local]].indices)


def test_no_halo(tissue):
    graph = build_graph(tissue)
    part = part_data(to_hetero_data(graph), np.arange(10))
    assert part["cell"].owned.all()
    assert part["cell"].num_nodes == 10
