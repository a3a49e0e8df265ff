"""``stgraph embed`` with a model of the hub, and with one that finds no domains."""

import anndata as ad
import pytest

import stgraph
from stgraph.tasks.hub import download_model


@pytest.fixture
def model(tmp_path):
    """The folder of a small model without domains."""
    tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)
    trainer = {"_target_": "stgraph.training.loop.Trainer", "max_steps": 1}
    fitted = stgraph.fit(tissue, trainer=trainer, domains=None, progress=False)
    fitted.pretrained.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_model_without_domains(model, files, cli, tmp_path):
    result = cli("embed", files[0], "--model", model, "--out", "e.h5ad")
    assert result.code == 0
    assert "e.h5ad: obsm['X_stgraph'] (200, 64)" in result.err
    assert "domains" not in result.err
    assert "stgraph_domain" not in ad.read_h5ad(tmp_path / "e.h5ad").obs


def test_an_id_is_one_and_a_folder_has_no_revision(model, files, cli, refused, monkeypatch):
    asked = []

    def fetch(name, *, revision=None):
        asked.append((name, revision))
        return model

    monkeypatch.setattr("stgraph.tasks.pretrained.download_model", fetch)
    assert cli("embed", files[0], "--model", "lab/model", "--revision", "v1", "--out", "e.h5ad").code == 0
    assert asked == [("lab/model", "v1")]
    embed = ("embed", files[0], "--out", "f.h5ad", "--model")
    assert "is a folder, which has no revision" in refused(*embed, model, "--revision", "v1")
    assert "There is no model directory" in refused(*embed, "./lab/model")
    monkeypatch.setattr("stgraph.tasks.pretrained.download_model", download_model)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "while HF_HUB_OFFLINE is set: go online once, or copy" in refused(*embed, "lab/model")
