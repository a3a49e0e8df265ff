"""Distance recovery on a graph that is found anew: what it judges, and that nothing but geometry is left to read."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from torch_geometric.data import Batch

from stgraph.data.convert import NEAR, TO_CELL, to_hetero_data
from stgraph.data.edge_types import AT_CELLS
from stgraph.data.lengths import distance, mean_spacing_of, spacing_of
from stgraph.data.parts import PartDataset
from stgraph.errors import InputError
from stgraph.graph.build import assemble, build_graph
from stgraph.graph.builders import KNN, Radius, RadiusByDegree
from stgraph.graph.delaunay import Delaunay
from stgraph.graph.grid import HexGrid
from stgraph.graph.postprocess import PostProcessed
from stgraph.models.base import ModelOutput
from stgraph.models.se2_transformer import SE2Transformer
from stgraph.objectives.base import WeightedSum
from stgraph.objectives.distance_recovery import DistanceRecovery
from stgraph.partition.metis import Metis
from stgraph.testing.objectives import ObjectiveContract


class TestContract(ObjectiveContract):
    @staticmethod
    def make():
        return DistanceRecovery(0.12, 3.0, keep_rate=0.03, rebuild=KNN(8))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Oracle:
    """Predicts the pair state it is given."""

    def predict_distances(self, pair):
        return pair[:, 0]


@pytest.mark.parametrize("builder", [KNN(6), Radius(25.0), RadiusByDegree(8.0), Delaunay()])
def test_the_model_sees_a_tissue_whose_cells_lie_where_they_were_moved_to(slices, builder):
    """To the edge: the graph built from scratch of the moved coordinates, for each slice of a batch."""
    parts = [to_hetero_data(build_graph(adata, builder=builder)) for adata in slices]
    batch = DistanceRecovery(0.2, 3.0, rebuild=builder).corrupt(Batch.from_data_list(parts), seeded())
    moved = [pos.double().numpy() for pos in torch.split(batch["cell"].pos, [part["cell"].num_nodes for part in parts])]
    scratch = Batch.from_data_list(
        [
            to_hetero_data(assemble("s", part["cell"].x.numpy(), pos, builder(pos), unit="um", virtual_cells=None))
            for part, pos in zip(parts, moved, strict=True)
        ]
    )
    assert torch.equal(batch[NEAR].edge_index, scratch[NEAR].edge_index)
    torch.testing.assert_close(batch[NEAR].edge_attr, scratch[NEAR].edge_attr, rtol=1e-5, atol=1e-3)


def test_all_edges_at_cells_are_measured_where_cells_lie_now(tissue):
    data = to_hetero_data(build_graph(tissue))
    batch = DistanceRecovery(0.2, 3.0, rebuild=KNN(8)).corrupt(data, seeded())
    for edge_type in AT_CELLS:
        source, target = batch[edge_type].edge_index
        gap = distance(batch[edge_type[0]].pos[source], batch[edge_type[2]].pos[target])
        assert torch.equal(batch[edge_type].edge_attr[:, 0], gap), edge_type
    for edge_type in AT_CELLS[1:]:
        assert torch.equal(batch[edge_type].edge_index, data[edge_type].edge_index)
    assert torch.equal(batch["virtual"].pos, data["virtual"].pos)


def test_judged_are_the_new_edges_of_moved_and_of_kept_cells_at_their_old_lengths(tissue):
    data = to_hetero_data(build_graph(tissue))
    objective = DistanceRecovery(0.12, 5.0, keep_rate=0.03, rebuild=KNN(8), center=2.0, spread=0.5)
    batch = objective.corrupt(data, seeded())
    cell = batch["cell"]
    assert (int(cell.moved.sum()), int(cell.stayed.sum())) == (round(0.12 * 320), round(0.03 * 320))
    assert not (cell.moved & cell.stayed).any()
    assert torch.equal((cell.pos != data["cell"].pos).any(dim=1), cell.moved)
    source, target = batch[NEAR].edge_index
    chosen = cell.moved | cell.stayed
    judged = chosen[source] | chosen[target]
    assert int(objective.count(batch)) == int(judged.sum()) == len(objective.targets(batch))
    old = (data["cell"].pos[source] - data["cell"].pos[target]).norm(dim=1) / data.spacing
    torch.testing.assert_close(objective.targets(batch), old.log1p()[judged])
    truth = ((old.log1p() - 2.0) / 0.5)[:, None]
    pair = torch.where(judged[:, None], truth, torch.tensor(1e6))
    assert objective.loss(Oracle(), ModelOutput(None, None, None, pair), batch) == pytest.approx(0.0, abs=1e-8)
    assert objective.loss(Oracle(), ModelOutput(None, None, None, pair + 2.0), batch) == pytest.approx(4.0, rel=1e-4)


def test_standardised_a_model_that_says_nothing_has_a_loss_of_one(tissue):
    data = to_hetero_data(build_graph(tissue))
    plain = DistanceRecovery(jitter=5.0, rebuild=KNN())
    targets = torch.cat([plain.targets(plain.corrupt(data, seeded(seed))) for seed in range(10)])
    center, spread = float(targets.mean()), float(targets.std())
    objective = DistanceRecovery(jitter=5.0, rebuild=KNN(), center=center, spread=spread)
    losses = []
    for seed in range(10):
        batch = objective.corrupt(data, seeded(seed))
        nothing = torch.zeros(batch[NEAR].num_edges, 1)
        losses.append(float(objective.loss(Oracle(), ModelOutput(None, None, None, nothing), batch)))
    assert np.mean(losses) == pytest.approx(1.0, rel=0.03)


def described(batch):
    """(N, 8) what a reader of lengths sees of each cell: its own edges, and those of its neighbours."""
    source, target = batch[NEAR].edge_index
    length = batch[NEAR].edge_attr[:, 0] / spacing_of(batch)[target]
    n = batch["cell"].num_nodes
    seen = torch.zeros(n, 4)
    for column, how in enumerate(("mean", "amax", "amin")):
        seen[:, column].scatter_reduce_(0, target, length, how, include_self=False)
    seen[:, 3] = torch.bincount(target, minlength=n).float()
    around = torch.zeros(n, 4).index_add_(0, target, seen[source]) / seen[:, 3:].clamp(min=1)
    return torch.cat([seen, around], dim=1).numpy()


@pytest.fixture(scope="module")
def uniform():
    """Cells that lie anywhere, so that where a moved one lies says nothing; those in the middle are owned."""
    rng = np.random.default_rng(0)
    pos = rng.random((2600, 2)) * 510
    graph = assemble("s", rng.normal(size=(2600, 2)), pos, KNN(8)(pos), unit="um", virtual_cells=None)
    data = to_hetero_data(graph)
    data["cell"].owned = (data["cell"].pos.abs() < 190).all(dim=1)
    return data


def told(batches):
    """How well moved cells are told from others: by a forest on what is seen, and by the mean edge length alone."""
    seen = np.concatenate([described(batch)[batch["cell"].owned.numpy()] for batch in batches])
    moved = np.concatenate([batch["cell"].moved[batch["cell"].owned].numpy() for batch in batches])
    forest = RandomForestClassifier(30, min_samples_leaf=5, random_state=0)
    chances = cross_val_predict(forest, seen, moved, cv=3, method="predict_proba")[:, 1]
    return roc_auc_score(moved, chances), roc_auc_score(moved, seen[:, 0])


@pytest.mark.parametrize(("rebuild", "least", "most"), [(None, 0.9, 1.0), (KNN(8), 0.4, 0.6)])
def test_a_reader_of_lengths_finds_moved_cells_by_their_old_neighbours_only(uniform, rebuild, least, most):
    forest, _ = told([DistanceRecovery(move_rate=0.1, jitter=4.0, rebuild=rebuild).corrupt(uniform, seeded())])
    assert least < forest < most


@pytest.fixture(scope="module")
def small_parts():
    """Parts as small as a move is long: 16 mean spacings from side to side."""
    pos = np.random.default_rng(0).random((2000, 2)) * 450
    graph = assemble("s", np.zeros((2000, 2)), pos, KNN(18)(pos), unit="um", virtual_cells=None)
    return PartDataset([graph], Metis(part_size=250), num_hops=1)


def test_moved_cells_do_not_show_at_the_borders_of_parts(small_parts):
    objective = DistanceRecovery(0.1, 5.0, jitter_unit="mean_spacing", rebuild=KNN(18))
    generator = seeded()
    forest, alone = told([objective.corrupt(part, generator) for part in small_parts])
    assert 0.4 < forest < 0.62
    assert 0.4 < alone < 0.62


def test_moves_that_end_in_the_part_stay_as_they_were_drawn(small_parts):
    part = small_parts[0]
    settings = {"move_rate": 0.1, "jitter": 5.0, "jitter_unit": "mean_spacing"}
    plain = DistanceRecovery(**settings).corrupt(part, seeded())["cell"]
    kept = DistanceRecovery(**settings, rebuild=KNN(18)).corrupt(part, seeded())["cell"]
    assert torch.equal(plain.moved, kept.moved)
    same = (plain.pos == kept.pos).all(dim=1)
    assert same[~plain.moved].all()
    assert 0.4 < same[plain.moved].float().mean() < 0.95
    stays = part["cell"].pos[~plain.moved]
    gap, nearest = torch.cdist(kept.pos[plain.moved], stays).min(dim=1)
    assert part["cell"].owned[~plain.moved][nearest].all()
    assert gap.max() <= part[NEAR].edge_attr.max()
    assert (kept.pos != part["cell"].pos).any(dim=1)[plain.moved].all()


def test_old_neighbours_give_lengths_no_builder_would(uniform):
    reach = float(uniform[NEAR].edge_attr.max())
    lengths = {}
    for name, rebuild in (("old", None), ("new", KNN(8))):
        batch = DistanceRecovery(move_rate=0.1, jitter=8.0, rebuild=rebuild).corrupt(uniform, seeded())
        source, target = batch[NEAR].edge_index
        at_moved = batch["cell"].moved[source] | batch["cell"].moved[target]
        lengths[name] = batch[NEAR].edge_attr[at_moved, 0]
    assert (lengths["old"] > reach).float().mean() > 0.5
    assert (lengths["new"] > reach).float().mean() < 0.01


def test_parts_with_a_halo(tissue):
    graph = build_graph(tissue, builder=KNN(8))
    parts = PartDataset([graph], Metis(part_size=110), num_hops=1)
    batch = Batch.from_data_list([parts[0], parts[1]])
    objective = DistanceRecovery(0.2, 3.0, rebuild=KNN(8))
    corrupted = objective.corrupt(batch, seeded())
    assert not corrupted["cell"].moved[~batch["cell"].owned].any()
    source, target = corrupted[NEAR].edge_index
    assert torch.equal(batch["cell"].batch[source], batch["cell"].batch[target])
    halo = ~batch["cell"].owned
    assert (halo[source] | halo[target]).any()
    torch.manual_seed(0)
    losses = WeightedSum([objective])(SE2Transformer(20, hidden_channels=16), batch, seeded())
    assert torch.isfinite(losses["loss"])


def test_a_mean_spacing_is_that_of_the_part():
    """As SToFM's code has it: the root of the area of the bounding box per cell."""
    rng = np.random.default_rng(0)
    sizes = (np.array([600.0, 200.0]), np.array([100.0, 300.0]))
    parts = []
    for size in sizes:
        pos = np.concatenate([[[0, 0]], [size], rng.random((298, 2)) * size])
        graph = assemble("s", np.zeros((300, 2)), pos, KNN(4)(pos), unit="um", virtual_cells=None)
        parts.append(to_hetero_data(graph))
    batch = Batch.from_data_list(parts)
    expected = torch.tensor([np.sqrt(size.prod() / 300) for size in sizes]).float()
    torch.testing.assert_close(mean_spacing_of(batch), expected.repeat_interleave(300))
    objective = DistanceRecovery(0.9, 5.0, jitter_unit="mean_spacing")
    corrupted = objective.corrupt(batch, seeded())
    for graph in (0, 1):
        chosen = corrupted["cell"].moved & (batch["cell"].batch == graph)
        step = (corrupted["cell"].pos - batch["cell"].pos)[chosen]
        assert float(step.std()) == pytest.approx(5 * float(expected[graph]), rel=0.1)


class TestVirtualPairs:
    @pytest.fixture
    def corrupted(self, tissue):
        data = to_hetero_data(build_graph(tissue))
        objective = DistanceRecovery(0.2, 3.0, keep_rate=0.1, rebuild=KNN(8), with_virtual=True)
        return data, objective, objective.corrupt(data, seeded())

    def test_pairs_with_every_virtual_cell_are_judged(self, corrupted):
        data, objective, batch = corrupted
        virtual, cell = batch[TO_CELL].edge_index
        chosen = (batch["cell"].moved | batch["cell"].stayed)[cell]
        assert int(chosen.sum()) == data["virtual"].num_nodes * (round(0.2 * 320) + round(0.1 * 320))
        near = DistanceRecovery(0.2, 3.0, keep_rate=0.1, rebuild=KNN(8)).corrupt(data, seeded())
        assert torch.equal(near[NEAR].edge_index, batch[NEAR].edge_index)
        source, target = near[NEAR].edge_index
        picked = batch["cell"].moved | batch["cell"].stayed
        assert int(objective.count(batch)) == int(chosen.sum()) + int((picked[source] | picked[target]).sum())
        old = (data["virtual"].pos[virtual] - data["cell"].pos[cell]).norm(dim=1) / data.spacing
        torch.testing.assert_close(
            objective.targets(batch)[-int(chosen.sum()) :], old.log1p()[chosen], atol=1e-4, rtol=1e-4
        )

        class Output:
            near_pair = (batch[NEAR].true_length / data.spacing).log1p()[:, None]
            virtual_pair = torch.where(chosen, old.log1p(), torch.tensor(1e6))[:, None]

        assert objective.loss(Oracle(), Output, batch) == pytest.approx(0.0, abs=1e-6)
        Output.virtual_pair = Output.virtual_pair + 3.0
        expected = 9.0 * float(chosen.sum() / objective.count(batch))
        assert objective.loss(Oracle(), Output, batch) == pytest.approx(expected, rel=1e-3)

    def test_they_have_to_be_there(self, corrupted, tissue):
        _, objective, batch = corrupted
        with pytest.raises(InputError, match="Oracle gives none"):
            objective.loss(Oracle(), ModelOutput(None, None, None, torch.zeros(batch[NEAR].num_edges, 1)), batch)
        with pytest.raises(InputError, match="informs=True"):
            objective.corrupt(to_hetero_data(build_graph(tissue), informs=False), seeded())

    def test_no_virtual_cells_are_no_error(self, tissue):
        objective = DistanceRecovery(rebuild=KNN(8), with_virtual=True)
        batch = objective.corrupt(to_hetero_data(build_graph(tissue, virtual_cells=None)), seeded())
        assert int(objective.count(batch)) == len(objective.targets(batch)) > 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"keep_rate": 0.95}, "keep_rate"),
        ({"jitter_unit": "microns"}, "spacing, mean_spacing"),
        ({"rebuild": "knn"}, "a builder such as KNN"),
        ({"rebuild": HexGrid()}, "cannot rebuild the edges of an array"),
        ({"rebuild": PostProcessed(HexGrid())}, "cannot rebuild the edges of an array"),
        ({"spread": 0.0}, "spread"),
        ({"center": float("nan")}, "center"),
    ],
)
def test_senseless_parameters(wrong, message):
    with pytest.raises(InputError, match=message):
        DistanceRecovery(**wrong)
