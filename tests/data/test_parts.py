from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch_geometric.loader import DataLoader

from stgraph.data.convert import NEAR, TO_CELL, TO_VIRTUAL, to_hetero_data
from stgraph.data.parts import PartDataset, part_data
from stgraph.errors import InputError
from stgraph.graph.build import build_graph
from stgraph.graph.builders import KNN
from stgraph.partition.halo import part_with_halo
from stgraph.partition.metis import Metis
from stgraph.partition.spatial import CoordinateBisection


@pytest.fixture
def graph(layered):
    return layered


@pytest.mark.parametrize("informs", [True, False])
@pytest.mark.parametrize("num_hops", [0, 1, 2])
def test_a_part_is_the_subgraph_of_the_whole_to_the_bit(graph, num_hops, informs, assert_same):
    rng = np.random.default_rng(0)
    whole = to_hetero_data(graph, informs=informs)
    assert (TO_CELL in whole.edge_types) == (TO_VIRTUAL in whole.edge_types) == informs
    for owned in (np.arange(40, 90), np.sort(rng.choice(len(graph), 33, replace=False)), np.array([7]), np.arange(320)):
        part = part_with_halo(graph, owned, num_hops)
        data = part_data(graph, part, informs=informs)
        expected = whole.subgraph({"cell": torch.from_numpy(part.cells)})
        assert data.validate()
        assert_same(data, expected, skip=["owned"])
        assert data["cell"].owned.tolist() == np.isin(part.cells, owned).tolist()
        assert data["cell"].index.tolist() == part.cells.tolist()


def test_parts_own_every_cell_once_and_carry_all_virtual_cells(slices):
    graphs = [build_graph(adata, builder=KNN(6)) for adata in slices]
    dataset = PartDataset(graphs, CoordinateBisection(80), num_hops=1)
    assert len(dataset) == 8
    assert all((~part["cell"].owned).any() for part in dataset)
    bare = PartDataset(graphs, CoordinateBisection(80), num_hops=0)
    assert all(part["cell"].owned.all() for part in bare)
    for graph in graphs:
        own = [part for part, name in zip(dataset, dataset.slice_of, strict=True) if name == graph.slice_id]
        assert {part.slice_id for part in own} == {graph.slice_id}
        owned = torch.cat([part["cell"].index[part["cell"].owned] for part in own])
        assert owned.sort().values.tolist() == list(range(len(graph)))
        for part in own:
            assert part["virtual"].num_nodes == len(graph.virtual)
            assert torch.equal(part["cell"].x, torch.from_numpy(graph.x)[part["cell"].index])


def test_owned_cells_keep_all_their_neighbours(graph):
    owned = np.arange(40, 90)
    part = part_data(graph, part_with_halo(graph, owned, 1))
    index = part["cell"].index.numpy()
    source, target = part[NEAR].edge_index.numpy()
    assert part["cell"].owned.sum() == 50
    for local in np.flatnonzero(part["cell"].owned.numpy()):
        np.testing.assert_array_equal(np.sort(index[source[target == local]]), graph.near[index[local]].indices)


def test_a_graph_that_must_not_be_written_to(graph, tmp_path, assert_same):
    def mapped(array, name):
        np.save(tmp_path / name, array)
        return np.load(tmp_path / f"{name}.npy", mmap_mode="r")

    near = graph.near
    arrays = {name: mapped(getattr(near, name), name) for name in ("data", "indices", "indptr")}
    read_only = sp.csr_matrix((arrays["data"], arrays["indices"], arrays["indptr"]), shape=near.shape, copy=False)
    virtual = replace(
        graph.virtual,
        **{name: mapped(getattr(graph.virtual, name), f"v_{name}") for name in ("membership", "x", "pos", "num_cells")},
    )
    stored = replace(graph, x=mapped(graph.x, "x"), pos=mapped(graph.pos, "pos"), near=read_only, virtual=virtual)
    part = part_with_halo(stored, np.arange(50), 1)
    data = part_data(stored, part)
    assert_same(data, part_data(graph, part))
    for value in (data["cell"].x, data["virtual"].x, data["virtual"].num_cells, data["cell"].pos):
        value.add_(1)  # what was mapped stays as it is
    assert_same(part_data(stored, part), part_data(graph, part))


def test_a_part_shares_no_memory_with_its_slice(graph):
    before = graph.x.copy(), graph.virtual.x.copy()
    data = to_hetero_data(graph)
    data["cell"].x += 1
    data["virtual"].x += 1
    np.testing.assert_array_equal(graph.x, before[0])
    np.testing.assert_array_equal(graph.virtual.x, before[1])


def test_the_centre_is_found_once_for_all_parts(graph, monkeypatch):
    dataset = PartDataset([graph], CoordinateBisection(80))
    first = dataset[0]
    seen = []

    class Watched(np.ndarray):
        def mean(self, *args, **kwargs):
            seen.append(self.shape)
            return super().mean(*args, **kwargs)

    object.__setattr__(graph, "pos", graph.pos.view(Watched))
    assert torch.equal(dataset[1].origin, first.origin)
    assert seen == []


def test_parts_in_workers_are_the_same(slices, assert_same):
    graphs = [build_graph(adata, builder=KNN(6)) for adata in slices]
    dataset = PartDataset(graphs, Metis(80))
    for here, there in zip(dataset, DataLoader(dataset, num_workers=2), strict=True):
        assert_same(here, there.to_data_list()[0])


def test_a_transform_is_applied_anew_each_time(graph):
    calls = []

    def mark(data):
        calls.append(data["cell"].num_nodes)
        data.mark = torch.tensor([len(calls)])
        return data

    dataset = PartDataset([graph], CoordinateBisection(80), transform=mark)
    assert [int(dataset[0].mark), int(dataset[0].mark)] == [1, 2]


def test_parts_by_number(graph, assert_same):
    dataset = PartDataset([graph], CoordinateBisection(80), informs=False)
    assert_same(dataset[-1], dataset[len(dataset) - 1])
    assert dataset.part(2).cells.tolist() == dataset[2]["cell"].index.tolist()
    for index in (len(dataset), -len(dataset) - 1):
        with pytest.raises(IndexError, match="There are 4 parts"):
            dataset[index]


def test_bad_input(graph):
    with pytest.raises(InputError, match="num_hops of 0 or more, not -1"):
        PartDataset([graph], CoordinateBisection(80), num_hops=-1)
    for name in ("other", graph.slice_id):
        narrow = replace(graph, slice_id=name, x=graph.x[:, :3])
        with pytest.raises(InputError, match="features of different width"):
            PartDataset([graph, narrow], CoordinateBisection(80))


def test_levels_that_cannot_be_batched(graph):
    flat = replace(graph, slice_id="flat", virtual=replace(graph.virtual, parent=None))
    with pytest.raises(InputError, match=r"different depth \(levels: {'synthetic_0': 3, 'flat': 1}\)"):
        PartDataset([graph, flat], CoordinateBisection(80))
    bare = replace(graph, slice_id="bare", virtual=None)
    assert len(PartDataset([bare, flat], CoordinateBisection(80))) == 8  # V = 0 is a level, too
