from functools import partial

import numpy as np
import pytest

import stgraph
from stgraph.errors import InputError
from stgraph.graph.builders import KNN
from stgraph.graph.neighbor_choice import NearestCells
from stgraph.models.cell_features import CellFeatures
from stgraph.models.se2_transformer import SE2Transformer
from stgraph.objectives.masked_columns import MaskedColumns
from stgraph.partition.metis import Metis
from stgraph.preprocess.encoder import LogPCA
from stgraph.tasks.adapt_cells import AdaptCells
from stgraph.tasks.neighborhood_encoder import NeighborhoodEncoder
from stgraph.tasks.pretrain import pretrain
from stgraph.tasks.train_graphs import TrainGraphs
from stgraph.tasks.train_neighborhoods import TrainNeighborhoods
from stgraph.training.loop import Trainer

MODEL = {
    "_target_": "stgraph.models.aido_tissue.AIDOTissue",
    "hidden_channels": 16,
    "num_layers": 1,
    "ffn_channels": 16,
    "num_bins": 8,
    "decoder_channels": 16,
    "decoder_layers": 1,
    "decoder_ffn_channels": 16,
    "decoder_zeros": 8,
}
QUICK = Trainer(max_steps=3, warmup_steps=1, lr=1e-3)
TISSUE = stgraph.synthetic_tissue(n_cells=100, n_genes=50, n_slices=2)


def train(folder, *, encoder=None, model=CellFeatures, stages=None, **settings):
    own = NeighborhoodEncoder(MODEL, neighbors=NearestCells(3), trainer=None, objectives=(), max_cells=8)
    return pretrain(
        TISSUE[0],
        folder,
        encoder=encoder or own,
        builder=KNN(6),
        virtual_cells=None,
        partitioner=Metis(),
        model=model,
        stages=stages or {"neighborhoods": TrainNeighborhoods(trainer=QUICK)},
        **settings,
    )


def test_the_stage_trains_the_network_and_its_model_goes_to_other_slices(tmp_path):
    result = train(tmp_path / "run")
    assert [len(stage.history) for stage in result.stages] == [3]
    [adata] = result.adatas.values()
    own = result.pretrained.encoder.transform(TISSUE[0])
    np.testing.assert_array_equal(adata.obsm["X_stgraph"], own)  # the graph model adds nothing
    drawn = result.pretrained.encoder._drawn({**MODEL, "num_genes": 50}).state_dict()
    trained = result.pretrained.encoder.network.state_dict()
    assert all((drawn[name] != weight).any() for name, weight in trained.items() if name.endswith("linear2.weight"))

    result.pretrained.save_pretrained(tmp_path / "model")
    there = stgraph.embed(TISSUE[1], stgraph.from_pretrained(tmp_path / "model"))
    np.testing.assert_array_equal(there.obsm["X_stgraph"], result.pretrained.encoder.transform(TISSUE[1]))
    assert "spatial_connectivities" in there.obsp


def test_it_is_done_once_and_goes_on_where_it_was(tmp_path):
    first = train(tmp_path)
    again = train(tmp_path)
    assert [stage.how for stage in again.stages] == ["kept"]
    for one, other in zip(first.adatas.values(), again.adatas.values(), strict=True):
        np.testing.assert_array_equal(one.obsm["X_stgraph"], other.obsm["X_stgraph"])
    with pytest.raises(InputError, match="was trained with other settings or data: objectives was"):
        train(tmp_path, stages={"neighborhoods": TrainNeighborhoods([MaskedColumns(0.5)], trainer=QUICK)})


def test_epochs_count_every_cell_once(tmp_path):
    result = train(tmp_path, stages={"neighborhoods": TrainNeighborhoods(trainer=QUICK, epochs=1)})
    assert len(result.stages[0].history) == -(-100 // 8)


def test_a_graph_model_may_learn_on_its_embeddings(tmp_path):
    stages = {
        "neighborhoods": TrainNeighborhoods(trainer=QUICK),
        "spatial": TrainGraphs(trainer=QUICK, epochs=None),
    }
    result = train(tmp_path, model=partial(SE2Transformer, hidden_channels=8), stages=stages)
    [adata] = result.adatas.values()
    assert adata.obsm["X_stgraph"].shape == (100, 8)
    [graph] = result.graphs.values()
    np.testing.assert_array_equal(graph.x, result.pretrained.encoder.transform(TISSUE[0]))


def test_stages_that_do_not_fit_to_the_encoder(tmp_path):
    with pytest.raises(InputError, match=r"LogPCA reads no neighbourhoods.*choose encoder=aido_tissue"):
        train(tmp_path / "a", encoder=LogPCA(n_components=4))
    with pytest.raises(InputError, match=r"NeighborhoodEncoder.* has no network of cells to train"):
        train(tmp_path / "b", stages={"adapt": AdaptCells(trainer=QUICK)})
    with pytest.raises(InputError, match="CellFeatures has no weights"):
        train(
            tmp_path / "c",
            encoder=LogPCA(n_components=4),
            stages={"spatial": TrainGraphs(trainer=QUICK, epochs=None)},
        )


@pytest.mark.parametrize("settings", [{"epochs": 0}, {"epochs": 1.5}])
def test_bad_arguments(settings):
    with pytest.raises(InputError, match="epochs"):
        TrainNeighborhoods(**settings)
