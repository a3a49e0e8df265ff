import numpy as np
import pytest

import stgraph
from stgraph._config import instantiate, to_config
from stgraph.errors import InputError
from stgraph.tasks.pretrain import pretrain
from stgraph.tasks.readouts import Own
from stgraph.tasks.staged import StagedEncoder
from stgraph.testing.encoders import SliceEncoderContract

STEPS = {"_target_": "stgraph.training.loop.Trainer", "max_steps": 2, "warmup_steps": 1}
SETTINGS = {
    "encoder": {"_target_": "stgraph.preprocess.encoder.LogPCA", "n_components": 8},
    "builder": {"_target_": "stgraph.graph.builders.KNN", "n_neighbors": 6},
    "virtual_cells": None,
    "partitioner": {"_target_": "stgraph.partition.metis.Metis", "part_size": 100},
    "model": {"_target_": "stgraph.models.se2_transformer.SE2Transformer", "hidden_channels": 8, "heads": 2},
    "stages": {"spatial": {"_target_": "stgraph.tasks.train_graphs.TrainGraphs", "trainer": STEPS, "epochs": None}},
}
WITH_CELLS = SETTINGS | {
    "encoder": {
        "_target_": "stgraph.tasks.rank_cells.RankCells",
        "settings": {"out_channels": 32, "hidden_channels": 32, "num_layers": 2, "heads": 2, "ffn_channels": 32},
    },
    "stages": {
        "adapt": {"_target_": "stgraph.tasks.adapt_cells.AdaptCells", "trainer": STEPS, "epochs": None},
        **SETTINGS["stages"],
    },
}


@pytest.fixture(scope="module")
def slices():
    return stgraph.synthetic_tissue(n_cells=200, n_genes=60, n_slices=2)


class TestContract(SliceEncoderContract):
    make = staticmethod(lambda: StagedEncoder(SETTINGS))
    tolerance = 5e-3  # two steps of AdamW, whose size does not fall with the gradient

    @pytest.mark.parametrize("n", [1, 2, 5])
    def test_tiny_slices(self, encoder, slices, n):
        """A graph of 6 neighbours needs more cells, and says so."""
        with pytest.raises(InputError, match="too few for 6 neighbours"):
            encoder.transform(slices[2][:n].copy())


@pytest.mark.parametrize("settings", [SETTINGS, WITH_CELLS], ids=["features", "cells"])
# Two steps of a small network.
@pytest.mark.filterwarnings("ignore:.* alike for all cells")
def test_it_is_what_pretrain_trains(settings, slices, tmp_path):
    encoder = StagedEncoder(settings, random_state=1).fit(slices)
    result = pretrain(slices, tmp_path, **settings, random_state=1)
    own = StagedEncoder(settings, Own(), random_state=1).fit(slices)
    for name, adata in zip(("synthetic_0", "synthetic_1"), slices, strict=True):
        np.testing.assert_array_equal(encoder.transform(adata), result.adatas[name].obsm["X_stgraph"])
        np.testing.assert_array_equal(own.transform(adata), result.graphs[name].x)


def test_config_round_trip():
    again = instantiate(to_config(StagedEncoder(SETTINGS, Own(), random_state=3)))
    assert again.settings == SETTINGS
    assert again.random_state == 3
    assert isinstance(again.readout, Own)


def test_settings_are_checked(slices):
    with pytest.raises(InputError, match="has no setting 'domains'"):
        StagedEncoder(SETTINGS | {"domains": None})
    with pytest.raises(InputError, match="needs the settings model, stages"):
        StagedEncoder({name: SETTINGS[name] for name in ("encoder", "builder", "virtual_cells", "partitioner")})
    with pytest.raises(InputError, match="not fitted"):
        StagedEncoder(SETTINGS).transform(slices[0])
