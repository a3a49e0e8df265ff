"""The recipe on small tissue: what each stage trains, and what comes out."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest

import stgraph
from stgraph._config import to_config
from stgraph.errors import InputError, StgraphWarning
from stgraph.graph.builders import KNN
from stgraph.graph.virtual_cells import JointLeiden
from stgraph.models.cell_features import CellFeatures
from stgraph.models.stofm_se2 import SToFMSE2
from stgraph.objectives.masked_cell import MaskedCell
from stgraph.partition.spatial import CoordinateBisection
from stgraph.preprocess.encoder import LogPCA
from stgraph.tasks.adapt_cells import AdaptCells
from stgraph.tasks.domains import MixtureDomains
from stgraph.tasks.feature_cache import state_hash
from stgraph.tasks.pretrain import pretrain
from stgraph.tasks.rank_cells import RankCells
from stgraph.tasks.stage_plan import objective_list
from stgraph.tasks.staged_run import settings_of
from stgraph.tasks.train_graphs import TrainGraphs
from stgraph.tasks.train_jointly import TrainJointly
from stgraph.training.loop import Trainer

pytestmark = pytest.mark.filterwarnings("ignore::stgraph.errors.StgraphWarning")  # networks that have learnt little

TRAINER = Trainer(max_steps=3, batch_size=2, warmup_steps=1, lr=1e-3, accelerator="cpu", checkpoint_every=2)
STAGES = {
    "adapt": AdaptCells(trainer=TRAINER, epochs=None, max_tokens=2000, max_cells=40),
    "spatial": TrainGraphs([MaskedCell(error="cosine")], trainer=TRAINER, epochs=None),
    "joint": TrainJointly([MaskedCell(error="cosine")], trainer=TRAINER, epochs=None),
}


def parts_of_a_run():
    return {
        "encoder": RankCells(settings={"out_channels": 8, "hidden_channels": 8, "num_layers": 1, "heads": 2,
                                       "ffn_channels": 8}, max_length=20),
        "builder": KNN(6),
        "virtual_cells": JointLeiden(),
        "partitioner": CoordinateBisection(100),
        "model": {"_target_": "stgraph.models.stofm_se2.SToFMSE2", "hidden_channels": 8, "num_layers": 1, "heads": 2,
                  "ffn_channels": 8, "num_kernels": 4},
    }  # fmt: skip


@pytest.fixture(scope="module")
def two():
    return stgraph.synthetic_tissue(n_cells=200, n_genes=60, n_slices=2)


@pytest.fixture(scope="module")
def ran(two, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return pretrain(two, folder, stages=STAGES, **parts_of_a_run()), folder


def test_every_slice_is_embedded(ran, two):
    result, _ = ran
    assert list(result.adatas) == ["synthetic_0", "synthetic_1"]
    for given, adata in zip(two, result.adatas.values(), strict=True):
        assert adata.obsm["X_stgraph"].shape == (200, 8)
        assert np.isfinite(adata.obsm["X_stgraph"]).all()
        assert "X_stgraph" not in given.obsm
        assert "stgraph_domain" not in adata.obs


def test_each_stage_trains_what_it_should(ran):
    """By the weights each stage left: adapt the cells, spatial the graph, joint both."""
    _, folder = ran
    from stgraph.training.checkpoint import load_checkpoint

    adapt, spatial, joint = (load_checkpoint(folder / "stages" / name)[1]["model"] for name in STAGES)
    assert any(name.startswith("bert") for name in adapt)
    assert not any(name.startswith("cell_network") for name in spatial)
    of_cells = {name.removeprefix("cell_network."): w for name, w in joint.items() if name.startswith("cell_network.")}
    of_graphs = {name.removeprefix("graph_model."): w for name, w in joint.items() if name.startswith("graph_model.")}
    assert of_cells.keys() == adapt.keys()
    assert of_graphs.keys() == spatial.keys()
    for before, after in ((adapt, of_cells), (spatial, of_graphs)):
        assert any(not before[name].equal(after[name]) for name in before)


def test_the_model_is_the_one_of_the_last_stage(ran, two):
    result, _ = ran
    graph = result.pretrained.graph(two[0])
    np.testing.assert_array_equal(graph.x, result.graphs["synthetic_0"].x)
    again = result.pretrained.embed_graph(graph)
    np.testing.assert_array_equal(again, result.adatas["synthetic_0"].obsm["X_stgraph"])


def test_the_model_directory_reads_new_slices(ran, two, tmp_path):
    result, _ = ran
    result.pretrained.save(tmp_path / "model")
    embedded = stgraph.embed(two[1], tmp_path / "model")
    np.testing.assert_allclose(
        embedded.obsm["X_stgraph"], result.adatas["synthetic_1"].obsm["X_stgraph"], rtol=1e-4, atol=1e-5
    )


def test_called_again_it_keeps_everything(ran, two):
    before, folder = ran
    again = pretrain(two, folder, stages=STAGES, **parts_of_a_run())
    assert [stage.how for stage in again.stages] == ["kept"] * 3
    for name, adata in before.adatas.items():
        np.testing.assert_array_equal(again.adatas[name].obsm["X_stgraph"], adata.obsm["X_stgraph"])


def test_the_same_seed_gives_the_same_numbers(ran, two, tmp_path):
    again = pretrain(two, tmp_path, stages=STAGES, **parts_of_a_run())
    for name, adata in ran[0].adatas.items():
        np.testing.assert_array_equal(again.adatas[name].obsm["X_stgraph"], adata.obsm["X_stgraph"])


def test_features_are_those_of_the_stage_before(ran, two):
    """Stage 2 reads what stage 1 left; what is embedded, what stage 3 left: two states of the encoder, two slices."""
    _, folder = ran
    assert len(list((folder / "cache").iterdir())) == 4


def test_another_slice_or_setting_is_not_taken_for_it(ran, two):
    _, folder = ran
    other = [two[0], two[1][:150].copy()]
    with pytest.raises(InputError, match=r"'adapt' .* slices.synthetic_1 was"):
        pretrain(other, folder, stages=STAGES, **parts_of_a_run())
    lower = STAGES | {"joint": replace(STAGES["joint"], trainer=replace(TRAINER, lr=1e-4))}
    with pytest.raises(InputError, match=r"'joint' .* trainer.lr was 0.001 and is 0.0001"):
        pretrain(two, folder, stages=lower, **parts_of_a_run())
    with pytest.raises(InputError, match=r"'spatial' .* model.num_kernels was 4 and is 5"):
        parts = parts_of_a_run()
        pretrain(two, folder, stages=STAGES, **parts | {"model": parts["model"] | {"num_kernels": 5}})
    assert [s.how for s in pretrain(two, folder, stages=STAGES, **parts_of_a_run()).stages] == ["kept"] * 3


def test_a_run_goes_on_on_another_device(ran, two):
    _, folder = ran
    more_often = {n: replace(p, trainer=replace(p.trainer, checkpoint_every=7)) for n, p in STAGES.items()}
    assert [s.how for s in pretrain(two, folder, stages=more_often, **parts_of_a_run()).stages] == ["kept"] * 3


def test_a_frozen_encoder_stays(two, tmp_path):
    parts = parts_of_a_run()
    drawn = state_hash(parts_of_a_run()["encoder"].fit(two).state())
    pretrain(two, tmp_path, stages={"adapt": None, "spatial": STAGES["spatial"]}, **parts)
    assert state_hash(parts["encoder"].state()) == drawn


def test_without_a_network_of_cells(two, tmp_path):
    parts = parts_of_a_run() | {"encoder": LogPCA(n_components=5), "virtual_cells": None}
    result = pretrain(two, tmp_path, stages={"spatial": STAGES["spatial"]}, **parts)
    assert result.pretrained.model.in_channels == 5
    with pytest.raises(InputError, match="LogPCA is fitted and has no network of cells to train: choose encoder="):
        pretrain(two, tmp_path / "other", stages=STAGES, **parts)


def test_domains(two, tmp_path):
    result = pretrain(
        two, tmp_path, stages={"spatial": STAGES["spatial"]},
        domains=MixtureDomains(n_domains=3, n_init=1), **parts_of_a_run() | {"encoder": LogPCA(n_components=5)},
    )  # fmt: skip
    assert result.adatas["synthetic_0"].obs["stgraph_domain"].nunique() <= 3


def test_what_is_known_of_a_model_is_text(ran):
    result, _ = ran
    info = json.loads(result.adatas["synthetic_0"].uns["stgraph"]["parameters"])
    assert info["stages"]["joint"]["steps"] == 3
    assert info["settings"]["stages"]["spatial"]["trainer"]["lr"] == 1e-3


def test_that_a_network_was_drawn_is_said_only_where_it_stays_so(two, tmp_path):
    parts = parts_of_a_run()
    with pytest.warns(StgraphWarning, match="as it was drawn"):
        pretrain(two, tmp_path / "frozen", stages={"spatial": STAGES["spatial"]}, **parts)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        pretrain(two, tmp_path / "adapted", stages={"adapt": STAGES["adapt"]}, **parts_of_a_run())
    assert not any("as it was drawn" in str(warning.message) for warning in said)


def test_a_model_of_whole_parts_embeds_the_parts_it_was_trained_on(two, tmp_path):
    """Without hops, of the same cells; and the model that is kept gives these embeddings."""
    parts = parts_of_a_run() | {"encoder": LogPCA(n_components=5), "partitioner": CoordinateBisection(70)}
    parts["model"] = parts["model"] | {"scope": {"_target_": "stgraph.models.pair_scope.CompletePairs",
                                                 "unit": "diagonal"}}  # fmt: skip
    seen = []

    class Seen(MaskedCell):
        def corrupt(self, batch, generator):
            seen.append(batch["cell"].index[batch["cell"].ptr[0] : batch["cell"].ptr[1]])
            assert batch["cell"].owned.all()
            return super().corrupt(batch, generator)

    result = pretrain(two[:1], tmp_path / "run", stages={"spatial": replace(STAGES["spatial"], objectives=[Seen()])},
                      **parts)  # fmt: skip
    assert result.pretrained.partitioner == CoordinateBisection(70)
    partition = result.pretrained.partitioner(result.graphs["synthetic_0"])
    cut = [partition.cells(number).tolist() for number in range(partition.num_parts)]
    assert all(sorted(cells.tolist()) in cut for cells in seen)
    result.pretrained.save(tmp_path / "model")
    embedded = stgraph.embed(two[0], tmp_path / "model").obsm["X_stgraph"]
    np.testing.assert_allclose(embedded, result.adatas["synthetic_0"].obsm["X_stgraph"], rtol=1e-4, atol=1e-5)
    assert stgraph.from_pretrained(tmp_path / "model").partitioner == CoordinateBisection(70)


def test_collapse_is_said(two, tmp_path):
    class Alike(LogPCA):
        def transform(self, adata):
            return np.ones((adata.n_obs, 4), dtype=np.float32)

    parts = parts_of_a_run() | {"encoder": Alike(), "virtual_cells": None}
    with pytest.warns(StgraphWarning, match="synthetic_0: the features of cells by Alike are alike for all cells"):
        pretrain(two, tmp_path, stages={"spatial": STAGES["spatial"]}, **parts)


def test_collapse_is_said_once_where_embeddings_are_the_features(two, tmp_path):
    class Alike(LogPCA):
        def transform(self, adata):
            return np.ones((adata.n_obs, 4), dtype=np.float32)

    parts = parts_of_a_run() | {"encoder": Alike(), "virtual_cells": None, "model": CellFeatures}
    with pytest.warns(StgraphWarning, match="alike for all cells") as said:
        pretrain(two, tmp_path, stages={}, **parts)
    assert len(said) == 2  # one for each slice
    assert not any("target=cached" in str(each.message) for each in said)


def test_bad_arguments(two, tmp_path):
    with pytest.raises(InputError, match="random_state must be a whole number"):
        pretrain(two, tmp_path, stages=STAGES, random_state=-1, **parts_of_a_run())
    for wrong, message in (
        ({"stages": {**STAGES, "last": TRAINER}}, "'last' is planned by a Trainer, which has no stage method"),
        ({"num_hops": -1}, "num_hops must be a whole number"),
        ({"num_hops": True}, "num_hops must be a whole number"),
        ({"domains": MixtureDomains(n_domains=401)}, "400 cells cannot be split into 401 domains"),
    ):
        with pytest.raises(InputError, match=message):
            pretrain(two, tmp_path, **{"stages": STAGES} | parts_of_a_run() | wrong)
        assert list(tmp_path.iterdir()) == [], "something was trained before it was refused"
    for plan in (AdaptCells, TrainGraphs, TrainJointly):
        with pytest.raises(InputError, match="epochs"):
            plan(epochs=0)
    with pytest.raises(InputError, match="max_tokens"):
        AdaptCells(max_tokens=0)


def test_plans_are_configs():
    for plan in STAGES.values():
        assert to_config(plan)["trainer"]["max_steps"] == 3


def test_settings_that_decide_nothing_are_left_out():
    joint = STAGES["joint"]

    def with_trainer(plan=joint, **changes):
        return settings_of(replace(plan, trainer=replace(TRAINER, **changes)))

    assert with_trainer(accelerator="auto", strategy="ddp", checkpoint_every=9) == settings_of(joint)
    # A step takes a batch of each process.
    assert with_trainer(devices=2) != settings_of(joint)
    assert with_trainer(num_nodes=2) != settings_of(joint)
    assert with_trainer(max_steps=9) != settings_of(joint)
    by_epochs = replace(joint, epochs=2)
    assert with_trainer(by_epochs, max_steps=9) == settings_of(by_epochs)


def test_objectives_by_name_or_not():
    objective = MaskedCell()
    assert objective_list([objective]) == objective_list({"any": objective, "left_out": None}) == [objective]


def test_the_model_is_made_for_the_encoder(ran):
    assert isinstance(ran[0].pretrained.model, SToFMSE2)
    assert ran[0].pretrained.model.in_channels == 8
