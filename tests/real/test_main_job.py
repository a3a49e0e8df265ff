import warnings

import numpy as np
import pytest

import stgraph
from stgraph.errors import StgraphWarning
from stgraph.tasks.scoring import OURS, PCA, score_domains
from stgraph.training.loop import Trainer

pytestmark = pytest.mark.real


def read(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StgraphWarning)
        return stgraph.read(path)


def test_domains_of_a_cortex_are_far_better_than_those_of_single_cells(data_dir):
    cortex = read(data_dir / "starmap_mvc" / "starmap_mvc_BY3_1k.h5ad")
    result = stgraph.fit(cortex, progress=False)
    scores = score_domains(result.adatas, "domain", result.pretrained.domains).set_index("method")["ari"]
    assert scores[OURS] > scores[PCA] + 0.15
    loss = [record["masked_cell"] for record in result.history]
    assert np.mean(loss[-20:]) < 0.9 * np.mean(loss[:5])


def test_a_turned_visium_slice_has_the_same_embedding(data_dir):
    slice_ = read(data_dir / "dlpfc" / "dlpfc_151673.h5ad")
    pretrained = stgraph.fit(slice_, trainer=Trainer(max_steps=10), progress=False).pretrained
    expected = stgraph.embed(slice_, pretrained)
    turned = slice_.copy()
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned.obsm["spatial"] = slice_.obsm["spatial"] @ turn.T + [5e4, -2e3]
    embedded = stgraph.embed(turned, pretrained)
    np.testing.assert_allclose(embedded.obsm["X_stgraph"], expected.obsm["X_stgraph"], atol=1e-3)
    assert (embedded.obs["stgraph_domain"] == expected.obs["stgraph_domain"]).mean() > 0.999
