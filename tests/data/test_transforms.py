import copy
import pickle

import pytest
import torch
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import Compose

from stgraph._config import instantiate, to_config
from stgraph.data.convert import NEAR, TO_CELL, VIRTUAL_NEAR, to_hetero_data
from stgraph.data.edge_types import AT_CELLS
from stgraph.data.lengths import measured
from stgraph.data.parts import PartDataset
from stgraph.data.transforms import AddInforms, DropGenes, JitterPositions, MaskCells, RigidMotion
from stgraph.errors import InputError
from stgraph.graph.build import build_graph
from stgraph.graph.builders import KNN
from stgraph.partition.metis import Metis

RANDOM = [MaskCells, JitterPositions, RigidMotion, DropGenes]


@pytest.fixture
def dataset(slices):
    return PartDataset([build_graph(adata, builder=KNN(6)) for adata in slices], Metis(80), num_hops=1)


@pytest.fixture
def batch(dataset):
    return Batch.from_data_list([dataset[0], dataset[1], dataset[5]])


def differs(first, second):
    return any(
        key not in second_store or not torch.equal(value, second_store[key])
        for first_store, second_store in zip(first.stores, second.stores, strict=True)
        for key, value in first_store.items()
        if isinstance(value, torch.Tensor)
    )


@pytest.mark.parametrize("make", [*RANDOM, AddInforms])
@pytest.mark.parametrize("kind", ["part", "batch"])
def test_what_is_given_stays_as_it_is(dataset, batch, make, kind, assert_same):
    data = dataset[0] if kind == "part" else batch
    if make is AddInforms:
        data = to_hetero_data(dataset.graphs[0], informs=False)
    before = copy.deepcopy(data)
    changed = make()(data)
    assert TO_CELL in changed.edge_types if make is AddInforms else differs(changed, before)
    assert_same(data, before)


@pytest.mark.parametrize("make", RANDOM)
def test_a_seed_decides_and_every_call_draws_anew(dataset, make, assert_same):
    data = dataset[0]
    one, other, third = make(random_state=3), make(random_state=3), make(random_state=4)
    first = one(data)
    assert_same(first, other(data))
    assert differs(first, third(data))
    second = one(data)
    assert differs(first, second)
    assert_same(second, other(data))


@pytest.mark.parametrize("make", RANDOM)
def test_workers_and_epochs_differ_and_can_be_repeated(dataset, make, assert_same):
    same_part = [dataset[0]] * 4

    def epochs(num_workers, seed):
        transform = make(random_state=1)
        loader = DataLoader(
            _Transformed(same_part, transform),
            num_workers=num_workers,
            generator=torch.Generator().manual_seed(seed),
        )
        return [[batch.to_data_list()[0] for batch in loader] for _ in range(2)]

    first, second = epochs(2, 0)
    assert differs(first[0], first[1])  # one worker each
    assert differs(first[0], first[2])  # the same worker twice
    assert differs(first[0], second[0])
    for epoch, again in zip((first, second), epochs(2, 0), strict=True):
        for one, other in zip(epoch, again, strict=True):
            assert_same(one, other)


@pytest.mark.parametrize("make", RANDOM)
def test_a_pickled_transform_goes_on_where_it_stood(dataset, make, assert_same):
    one = make(random_state=3)
    one(dataset[0])
    # Of torch's own, nothing: its generators do not reach a worker that is spawned.
    assert not any(isinstance(value, torch.Tensor | torch.Generator) for value in one.__getstate__().values())
    others = pickle.loads(pickle.dumps(one)), copy.deepcopy(one), copy.copy(one)
    expected = one(dataset[0])
    for other in others:  # they share no generator, or the next would be one ahead
        assert_same(other(dataset[0]), expected)


@pytest.mark.slow
def test_workers_may_be_spawned(dataset):
    loader = DataLoader(_Transformed([dataset[0]] * 2, MaskCells()), num_workers=2, multiprocessing_context="spawn")
    assert differs(*[batch.to_data_list()[0] for batch in loader])


class _Transformed(torch.utils.data.Dataset):
    def __init__(self, items, transform):
        self.items, self.transform = items, transform

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.transform(self.items[index])


@pytest.mark.parametrize("make", RANDOM)
def test_config(make):
    again = instantiate(to_config(make(random_state=7)))
    assert to_config(again) == to_config(make(random_state=7))


def test_the_global_generator_is_left_alone(batch):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Compose([make() for make in RANDOM])(batch)
    assert torch.equal(torch.rand(3), expected)


def test_masked_are_owned_cells(batch):
    masked = MaskCells(0.4)(batch)["cell"].masked
    owned = batch["cell"].owned
    assert not masked[~owned].any()
    assert int(masked.sum()) == round(0.4 * int(owned.sum()))


def test_jitter_measures_all_edges_at_cells_anew(batch):
    out = JitterPositions(0.5)(batch)
    step = (out["cell"].pos - batch["cell"].pos) / batch.spacing[batch["cell"].batch][:, None]
    assert step.std() == pytest.approx(0.5, rel=0.1)
    assert torch.equal(out["virtual"].pos, batch["virtual"].pos)
    for edge_type in AT_CELLS:
        source, target = out[edge_type].edge_index
        gap = (out[edge_type[0]].pos[source] - out[edge_type[2]].pos[target]).norm(dim=1)
        torch.testing.assert_close(out[edge_type].edge_attr[:, 0], gap)
        assert (out[edge_type].edge_attr != batch[edge_type].edge_attr).float().mean() > 0.9
        assert torch.equal(out[edge_type].edge_index, batch[edge_type].edge_index)
    assert torch.equal(out[VIRTUAL_NEAR].edge_attr, batch[VIRTUAL_NEAR].edge_attr)


def test_no_jitter_changes_no_length_that_positions_tell(batch):
    out = JitterPositions(0.0)(batch)
    for edge_type in set(AT_CELLS) - {NEAR}:
        assert torch.equal(out[edge_type].edge_attr, batch[edge_type].edge_attr)
    torch.testing.assert_close(out[NEAR].edge_attr, batch[NEAR].edge_attr, rtol=1e-4, atol=1e-3)


def test_jitter_without_informs(dataset):
    bare = PartDataset(dataset.graphs, dataset_partitioner(), informs=False)[0]
    assert TO_CELL not in JitterPositions()(bare).edge_types


def dataset_partitioner():
    return Metis(80)


def test_a_rigid_motion_keeps_distances_and_moves_each_slice_in_its_own_way(batch):
    out = RigidMotion(translation=20.0)(batch)
    for edge_type in batch.edge_types:
        assert torch.equal(out[edge_type].edge_attr, batch[edge_type].edge_attr)
        torch.testing.assert_close(measured(out, edge_type), batch[edge_type].edge_attr, rtol=1e-3, atol=5e-2)
    shifts = []
    for number in range(3):
        before = torch.cat([batch[kind].pos[batch[kind].batch == number] for kind in ("cell", "virtual")]).double()
        after = torch.cat([out[kind].pos[out[kind].batch == number] for kind in ("cell", "virtual")]).double()
        turn = torch.linalg.lstsq(before - before.mean(0), after - after.mean(0)).solution
        torch.testing.assert_close(turn @ turn.T, torch.eye(2, dtype=torch.float64), rtol=0, atol=1e-4)
        shifts.append(after.mean(0) - before.mean(0) @ turn)
        torch.testing.assert_close(before @ turn + shifts[-1], after, rtol=0, atol=1e-2)
    assert (torch.pdist(torch.stack(shifts)) > 1).all()


def test_turns_are_uniform_and_every_other_slice_is_mirrored(dataset):
    data = dataset[0]
    data["virtual"].pos = torch.eye(2).repeat(4, 1)
    motion = RigidMotion(translation=0.0)
    turns = torch.stack([motion(data)["virtual"].pos[:2] for _ in range(600)])
    assert torch.linalg.det(turns).mean().abs() < 0.15
    assert (torch.linalg.det(turns).abs() - 1).abs().max() < 1e-5
    assert turns.mean(dim=0).abs().max() < 0.1
    straight = RigidMotion(translation=0.0, reflect=False)
    assert all(torch.linalg.det(straight(data)["virtual"].pos[:2]) > 0 for _ in range(20))


def test_slices_of_a_batch_count_in_their_own_spacing(batch):
    batch.spacing = torch.tensor([1.0, 10.0, 100.0])
    step = JitterPositions(0.5)(batch)["cell"].pos - batch["cell"].pos
    for number, spacing in enumerate(batch.spacing.tolist()):
        assert step[batch["cell"].batch == number].std() == pytest.approx(0.5 * spacing, rel=0.3)
    motion = RigidMotion(translation=2.0)
    for store in batch.node_stores:
        store.pos = torch.zeros_like(store.pos)
    shifts = torch.stack([motion(batch)["cell"].pos[batch["cell"].ptr[:-1]] for _ in range(300)])
    torch.testing.assert_close(shifts.std(dim=(0, 2)), 2.0 * batch.spacing, rtol=0.15, atol=0)


def test_slices_of_a_batch_are_mirrored_each_for_itself(batch):
    motion = RigidMotion(translation=0.0)
    first = batch["virtual"].ptr[:-1]
    batch["virtual"].pos[first], batch["virtual"].pos[first + 1] = torch.eye(2)
    turned = (motion(batch)["virtual"].pos for _ in range(20))
    sides = torch.stack([torch.linalg.det(torch.stack([pos[first], pos[first + 1]], 1)) for pos in turned])
    assert (sides > 0).any(dim=0).all()
    assert not (sides[:, 0] * sides[:, 1] > 0).all()


def test_classes_draw_independently():
    seeds = {make(random_state=3).generator.initial_seed() for make in RANDOM}
    assert len(seeds) == len(RANDOM)


def test_dropped_genes_are_zero_everywhere_in_a_slice(batch):
    out = DropGenes(0.25)(batch)
    channels = batch["cell"].x.shape[1]
    assert out.kept.shape == (3, channels)
    assert ((~out.kept).sum(dim=1) == round(0.25 * channels)).all()
    assert not torch.equal(out.kept[0], out.kept[1])
    for kind in ("cell", "virtual"):
        kept = out.kept[batch[kind].batch]
        assert torch.equal(out[kind].x, batch[kind].x * kept)
    assert (DropGenes(0.99)(batch).kept.sum(dim=1) == 1).all()


def test_dropped_genes_of_one_part(dataset):
    out = DropGenes(0.25)(dataset[0])
    assert out.kept.shape == (1, dataset[0]["cell"].x.shape[1])
    assert not out["cell"].x[:, ~out.kept[0]].any()
    assert out["cell"].x[:, out.kept[0]].any(dim=0).all()


def test_informs_are_added_as_they_would_have_been(dataset, assert_same):
    whole = [to_hetero_data(graph) for graph in dataset.graphs]
    bare = [to_hetero_data(graph, informs=False) for graph in dataset.graphs]
    for expected, data in zip(whole, bare, strict=True):
        added = AddInforms()(data)
        for edge_type in expected.edge_types:
            assert torch.equal(added[edge_type].edge_index, expected[edge_type].edge_index)
            assert torch.equal(added[edge_type].edge_attr, expected[edge_type].edge_attr)
    expected, together = Batch.from_data_list(whole), AddInforms()(Batch.from_data_list(bare))
    for edge_type in expected.edge_types:
        assert torch.equal(together[edge_type].edge_index, expected[edge_type].edge_index)
        assert torch.equal(together[edge_type].edge_attr, expected[edge_type].edge_attr)
    assert_same(AddInforms()(whole[0]), whole[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaskCells(0.0), "MaskCells needs a rate between 0 and 1, not 0.0"),
        (lambda: DropGenes(1.0), "DropGenes needs a rate between 0 and 1, not 1.0"),
        (lambda: JitterPositions(-1.0), "scale of 0 or more spacings, not -1.0"),
        (lambda: RigidMotion(float("nan")), "translation of 0 or more spacings, not nan"),
    ],
)
def test_senseless_parameters(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_the_last_gene_stays(dataset):
    data = dataset[0]
    data["cell"].x = data["cell"].x[:, :1]
    with pytest.raises(InputError, match="at least two features"):
        DropGenes()(data)
