import anndata
import numpy as np
import pytest
import torch

from stgraph._config import config_dir, instantiate
from stgraph.benchmark.choices import chosen
from stgraph.benchmark.run import seeded
from stgraph.cli.compose import compose_config
from stgraph.models.aido_tissue import AIDOTissue
from stgraph.models.aido_tissue_release import save_aido_tissue
from stgraph.preprocess.gene_list import GeneList

QUICK = [
    "trainer.max_steps=2",
    "trainer.warmup_steps=1",
    "encoder.neighbors.n_neighbors=3",
    "encoder.max_cells=8",
    "encoder.model.network.num_layers=1",
]


def test_the_recipe_trains_saves_and_applies(cli, files, tmp_path):
    trained = cli("train", "experiment=aido_tissue_small", f"data.files=[{files[0]}]", "out=run", *QUICK)
    assert trained.code == 0, trained.err
    assert "neighborhoods: trained, 2 steps" in trained.err
    here = anndata.read_h5ad(tmp_path / "run" / "first.h5ad").obsm["X_stgraph"]
    assert here.shape == (200, 64)
    applied = cli("embed", files[2], "--model", "run", "--out", "third.h5ad")
    assert applied.code == 0, applied.err
    there = anndata.read_h5ad(tmp_path / "third.h5ad").obsm["X_stgraph"]
    assert there.shape == (200, 64)
    assert np.isfinite(there).all()


def test_counts_that_are_none_are_refused_with_the_reason(cli, files, tmp_path):
    adata = anndata.read_h5ad(files[0])
    adata.X = adata.X.astype(np.float32).log1p()
    adata.write_h5ad(tmp_path / "logged.h5ad")
    said = cli("train", "experiment=aido_tissue_small", "data.files=[logged.h5ad]", "out=run", *QUICK)
    assert said.code == 2
    assert "raw counts" in said.err.splitlines()[-1]


def test_too_few_cells_say_what_to_do(cli, files):
    arguments = ["experiment=aido_tissue_small", f"data.files=[{files[0]}]", "out=run", *QUICK]
    said = cli("train", *arguments, "encoder.neighbors.n_neighbors=200")
    assert said.code == 2
    assert "200 neighbours of each need 201 at least: leave the slice out" in said.err


def test_the_recipe_is_that_of_the_paper():
    config = compose_config("train", ["experiment=aido_tissue", "data.files=[a.h5ad]", "out=x"])
    trainer, encoder = instantiate(config["stages"]["neighborhoods"]).trainer, instantiate(config["encoder"])
    assert (trainer.max_steps, trainer.lr, trainer.schedule, trainer.grad_clip) == (150_000, 2e-4, "cosine", 1.0)
    assert (trainer.betas, trainer.weight_decay, encoder.max_cells) == ((0.9, 0.95), 0.01, 128)
    assert encoder.model["hidden_channels"] == 128
    assert encoder.max_tokens is None  # so that these are 128 cells


@pytest.mark.parametrize(("choice", "millions"), [("aido_tissue_3m", 3.0), ("aido_tissue_60m", 60.0)])
def test_sizes_are_those_that_were_published(choice, millions):
    chosen = ["encoder=aido_tissue", f"neighborhood_network@encoder.model={choice}"]
    config = dict(compose_config("fit", chosen)["encoder"]["model"])
    config.pop("_target_")
    layers = {name: value for name, value in config.items() if not name.startswith("decoder")}
    with torch.device("meta"):  # nothing is drawn
        network = AIDOTissue(19_264, **{**layers, "decoder_layers": 0})
    count = sum(weight.numel() for weight in network.encoder.parameters())
    table = 19_267 * config["hidden_channels"]
    assert (count + table) / 1e6 == pytest.approx(millions, rel=0.2)


def test_what_the_benchmark_takes_is_what_the_recipe_trains():
    learned = chosen("model", ["aido_tissue_small"])["aido_tissue_small"]
    encoder = compose_config("fit", ["encoder=aido_tissue_small"])["encoder"]
    assert {**learned, "random_state": 0, "trainer": {**learned["trainer"], "random_state": 0}} == encoder


def test_the_release_settings_of_fine_tuning():
    config = chosen("model", ["aido_tissue_finetuned"])["aido_tissue_finetuned"]
    tuned = instantiate(seeded(config, 7))
    assert tuned.random_state == tuned.encoder.random_state == 7
    assert (tuned.epochs, tuned.trainer.lr, tuned.trainer.betas) == (10, 1e-3, (0.9, 0.95))
    assert tuned.trainer.grad_clip == float("inf")
    assert (tuned.encoder.max_cells, tuned.encoder.max_tokens, tuned.encoder.neighbors.n_neighbors) == (256, None, 10)
    assert (tuned.warmup, tuned.encoder.batching.pool_batches) == (0.01, 8)
    assert (config_dir() / "learned" / "aido_tissue_finetuned.yaml").is_file()


def test_published_weights_need_no_training(cli, files, tmp_path):
    adata = anndata.read_h5ad(files[0])
    GeneList(tuple(adata.var_names)).write(tmp_path / "genes.tsv.gz")
    sizes = {"hidden_channels": 16, "num_layers": 1, "heads": 2, "ffn_channels": 16, "num_bins": 10}
    network = AIDOTissue(adata.n_vars, **sizes)
    save_aido_tissue(network, tmp_path / "published")
    command = ["train", "experiment=aido_tissue", f"data.files=[{files[0]}]", "out=run", "encoder.max_cells=8"]
    command += ["encoder.neighbors.n_neighbors=3", "stages.neighborhoods=null"]
    bare = cli(*command)
    assert bare.code == 2
    assert "encoder.weights=FILE encoder.gene_list=TABLE" in bare.err
    published = [
        "encoder.weights=published",
        "encoder.gene_list=genes.tsv.gz",
        *(f"encoder.model.{name}={size}" for name, size in sizes.items()),
    ]
    done = cli(*command, *published)
    assert done.code == 0, done.err
    here = anndata.read_h5ad(tmp_path / "run" / "first.h5ad").obsm["X_stgraph"]
    assert here.shape == (200, 16)
    assert cli("embed", files[0], "--model", "run", "--out", "first.h5ad").code == 0
    np.testing.assert_allclose(anndata.read_h5ad(tmp_path / "first.h5ad").obsm["X_stgraph"], here, atol=1e-5)
