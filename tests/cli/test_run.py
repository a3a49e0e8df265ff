"""What fit and embed write, and what they refuse."""

import json
import re
import shutil

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml

import stgraph

SMALL = ["--steps", "3", "--set", "encoder.n_components=8", "--set", "domains.n_init=1"]


@pytest.fixture
def model(finished, tmp_path):
    """A copy of a model directory, to be damaged."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "encoder.safetensors", "model.safetensors", "domains.safetensors"):
        shutil.copy(finished.out / name, folder)
    return folder


# What is written --------------------------------------------------------------------------


@pytest.mark.parametrize("run", ["finished", pytest.param("finished_with_umap", marks=pytest.mark.slow)])
def test_fit_as_a_person_runs_it(run, request):
    finished = request.getfixturevalue(run)
    said = finished.process.stderr
    assert finished.process.returncode == 0, said
    assert finished.process.stdout == ""
    assert "2 slices, 400 cells" in said
    assert "note: second: the unit of the coordinates is unknown" in said
    assert "adjusted Rand index against obs['domain']" in said
    assert f"results in {finished.out}: open {finished.out / 'report.html'}" in said
    assert "Warning" not in said


def test_exactly_the_promised_files(finished):
    assert {file.name for file in finished.out.iterdir()} == {
        "first.h5ad",
        "second.h5ad",
        "config.json",
        "encoder.safetensors",
        "model.safetensors",
        "domains.safetensors",
        "config.yaml",
        "metrics.jsonl",
        "scores.csv",
        "report.html",
        "README.md",
        "genes.txt",
    }
    assert [folder.name for folder in finished.out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("i", [0, 1])
def test_slices_carry_their_results(finished, files, i):
    given, found = ad.read_h5ad(files[i]), ad.read_h5ad(finished.out / files[i].name)
    assert (given.X != found.X).nnz == 0
    assert list(given.obs_names) == list(found.obs_names)
    np.testing.assert_array_equal(found.obsm["spatial"], given.obsm["spatial"])
    assert found.obsm["X_stgraph"].shape == (200, 64)
    assert found.obsm["X_stgraph"].dtype == np.float32
    assert np.isfinite(found.obsm["X_stgraph"]).all()
    assert found.obs["stgraph_domain"].dtype == "category"
    assert list(found.obs["stgraph_domain"].cat.categories) == list("01234567")
    assert found.obs["slice_id"].unique().tolist() == [files[i].stem]
    assert found.obsp["spatial_connectivities"].nnz == found.obsp["spatial_distances"].nnz
    record = found.uns["stgraph"]
    assert record["version"] == stgraph.__version__
    assert record["unit"] == ("um", "unknown")[i]
    assert json.loads(record["parameters"])["slices"] == ["first", "second"]


def test_one_line_of_metrics_for_each_step(finished):
    lines = [json.loads(line) for line in (finished.out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert all(np.isfinite(list(line.values())).all() for line in lines)


def test_settings_as_they_were_used(finished):
    settings = yaml.safe_load((finished.out / "config.yaml").read_text())
    assert settings["encoder"]["n_components"] == 8
    assert settings["trainer"]["max_steps"] == 3
    assert settings == json.loads((finished.out / "config.json").read_text())["info"]["settings"]


def test_scores_are_beside_simple_methods(finished):
    scores = pd.read_csv(finished.out / "scores.csv")
    assert {"stgraph", "PCA", "neighbour PCA"} <= set(scores["method"])
    assert set(scores["slice"]) == {"first", "second"}
    assert scores["ari"].between(-1, 1).all()


def test_the_report_tells_what_was_said(finished):
    report = (finished.out / "report.html").read_text()
    assert "the unit of the coordinates is unknown" in report
    assert "--score-against domain" in report


def test_embedding_a_training_slice_gives_what_fit_wrote(finished, files, cli, tmp_path):
    assert cli("embed", files[0], "--model", finished.out, "--out", "again.h5ad").code == 0
    again, first = ad.read_h5ad(tmp_path / "again.h5ad"), ad.read_h5ad(finished.out / "first.h5ad")
    np.testing.assert_allclose(again.obsm["X_stgraph"], first.obsm["X_stgraph"], atol=1e-5)
    assert again.obs["stgraph_domain"].tolist() == first.obs["stgraph_domain"].tolist()
    assert (again.obsp["spatial_distances"] != first.obsp["spatial_distances"]).nnz == 0


def test_embedding_what_fit_wrote_changes_nothing(finished, cli, tmp_path):
    assert cli("embed", finished.out / "first.h5ad", "--model", finished.out, "--out", "again.h5ad").code == 0
    again, first = ad.read_h5ad(tmp_path / "again.h5ad"), ad.read_h5ad(finished.out / "first.h5ad")
    np.testing.assert_allclose(again.obsm["X_stgraph"], first.obsm["X_stgraph"], atol=1e-5)


def test_embedding_a_new_slice(finished, files, cli, tmp_path):
    result = cli("embed", files[2], "--model", finished.out, "--out", "new/third.h5ad")
    assert result.code == 0
    assert "new/third.h5ad: obsm['X_stgraph'] (200, 64)" in result.err
    third = ad.read_h5ad(tmp_path / "new" / "third.h5ad")
    assert np.isfinite(third.obsm["X_stgraph"]).all()
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["third.h5ad"]


def test_embedding_several_slices_of_one_file(finished, files, cli, tmp_path):
    adata = ad.read_h5ad(files[0])
    adata.obs["side"] = np.where(adata.obsm["spatial"][:, 0] < np.median(adata.obsm["spatial"][:, 0]), "l", "r")
    adata.write_h5ad(tmp_path / "both.h5ad")
    adata[adata.obs["side"] == "l"].write_h5ad(tmp_path / "left.h5ad")
    at = ("--model", finished.out, "--slice-key", "side")
    assert cli("embed", "both.h5ad", *at, "--out", "b.h5ad").code == 0
    assert cli("embed", "left.h5ad", *at, "--out", "l.h5ad").code == 0
    both, left = ad.read_h5ad(tmp_path / "b.h5ad"), ad.read_h5ad(tmp_path / "l.h5ad")
    np.testing.assert_allclose(both[left.obs_names].obsm["X_stgraph"], left.obsm["X_stgraph"], atol=1e-5)
    assert list(both.obs_names) == list(adata.obs_names)
    assert not both.obs["stgraph_domain"].isna().any()


def test_slice_key_splits_a_file(files, cli, tmp_path):
    adata = ad.read_h5ad(files[0])
    adata.obs["side"] = np.where(adata.obsm["spatial"][:, 0] < np.median(adata.obsm["spatial"][:, 0]), "l", "r")
    adata.write_h5ad(tmp_path / "both.h5ad")
    assert cli("fit", "both.h5ad", "--out", "out", "--slice-key", "side", *SMALL).code == 0
    left = ad.read_h5ad(tmp_path / "out" / "l.h5ad")
    assert set(left.obs["side"]) == {"l"}
    assert {file.name for file in (tmp_path / "out").glob("*.h5ad")} == {"l.h5ad", "r.h5ad"}
    assert not (tmp_path / "out" / "scores.csv").exists()


def test_options_reach_their_place(files, cli, tmp_path):
    adata = ad.read_h5ad(files[1])
    adata.layers["raw"] = adata.X.copy()
    adata.X = adata.X.astype(np.float32) * 0.5
    adata.write_h5ad(tmp_path / "a.h5ad")
    adata.write_h5ad(tmp_path / "b.h5ad")
    options = ["--layer", "raw", "--keep", "domain != 'WM'", "--n-domains", "3", "--seed", "5"]
    units = ["--um-per-unit", "0.5", "--um-per-unit", "b=0.8"]
    result = cli("fit", "a.h5ad", "b.h5ad", "--out", "out", *options, *units, *SMALL, "--set", "graph=radius")
    assert result.code == 0, result.err
    assert "note" not in result.err
    for name, um in (("a", 0.5), ("b", 0.8)):
        found = ad.read_h5ad(tmp_path / "out" / f"{name}.h5ad")
        assert "WM" not in set(found.obs["domain"])
        assert (adata[found.obs_names].layers["raw"] != found.X).nnz == 0
        np.testing.assert_allclose(found.obsm["spatial"], adata[found.obs_names].obsm["spatial"] * um)
        assert list(found.obs["stgraph_domain"].cat.categories) == list("012")
        parameters = json.loads(found.uns["stgraph"]["parameters"])
        assert parameters["random_state"] == 5
        assert parameters["settings"]["trainer"]["random_state"] == 5
        assert parameters["settings"]["builder"]["_target_"] == "stgraph.graph.builders.Radius"


def test_the_same_seed_gives_the_same_numbers(files, cli, tmp_path):
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert cli("fit", files[0], "--out", out, "--seed", seed, *SMALL).code == 0
    a, b, c = (ad.read_h5ad(tmp_path / out / "first.h5ad").obsm["X_stgraph"] for out in "abc")
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 1e-3


def test_a_class_of_the_users_own_folder(files, cli, tmp_path):
    (tmp_path / "mylab_graphs.py").write_text(
        "from dataclasses import dataclass\n"
        "from stgraph.graph.builders import KNN\n\n"
        "@dataclass(frozen=True)\nclass Mine(KNN):\n    n_neighbors: int = 5\n"
    )
    (tmp_path / "networkx.py").write_text("raise RuntimeError('a script of the user hides a library')")
    target = "graph._target_=mylab_graphs.Mine"
    assert cli("fit", files[0], "--out", "out", *SMALL, "--set", target, "--set", "graph.n_neighbors=6").code == 0
    assert yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())["builder"]["n_neighbors"] == 6


def test_brackets_in_names_are_no_markup(files, cli, tmp_path):
    shutil.copy(files[0], tmp_path / "a[bold].h5ad")
    result = cli("fit", "a[bold].h5ad", "--out", "out[i]", *SMALL)
    assert result.code == 0
    assert "1 slice, 200 cells, unit um: a[bold]" in result.err
    assert "open out[i]/report.html" in result.err
    assert "a[bold]" in (tmp_path / "out[i]" / "report.html").read_text()


# --out and --overwrite --------------------------------------------------------------------


@pytest.fixture
def no_work(monkeypatch):
    """Nothing may be read before the options are known to be good."""

    def read(*_, **__):
        pytest.fail("a file was read")

    monkeypatch.setattr("stgraph.cli.run.read", read)
    monkeypatch.setattr("stgraph.cli.run.from_pretrained", read)


@pytest.mark.usefixtures("no_work")
def test_out_is_refused_before_any_work(files, refused, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    (tmp_path / "file").touch()
    (tmp_path / "e.h5ad").touch()
    (tmp_path / "folder.h5ad").mkdir()
    (tmp_path / "here").mkdir()
    shutil.copy(files[0], tmp_path / "here")
    (tmp_path / "here" / "config.json").touch()
    fit, embed = ("fit", files[0], *SMALL, "--out"), ("embed", files[0], "--model", "m", "--out")
    assert "already has content: choose another --out or pass --overwrite" in refused(*fit, "full")
    assert "holds no results of stgraph to replace" in refused(*fit, "full", "--overwrite")
    assert (tmp_path / "full" / "notes.txt").read_text() == "mine"
    assert "'file' is a file" in refused(*fit, "file")
    assert "'file' is a file" in refused(*fit, "file", "--overwrite")
    assert "not a folder you may write to" in refused(*fit, "file/out")
    assert "the folder you are in" in refused(*fit, ".", "--overwrite")
    assert "the folder you are in" in refused(*fit, "..", "--overwrite")
    assert "lies in 'here', which would be replaced" in refused(
        "fit", "here/first.h5ad", *SMALL, "--out", "here", "--overwrite"
    )
    assert "'e.h5ad' already exists: choose another --out or pass --overwrite" in refused(*embed, "e.h5ad")
    assert "must end in .h5ad" in refused(*embed, "e.txt")
    assert "'folder.h5ad' is a folder" in refused(*embed, "folder.h5ad", "--overwrite")
    assert "not a folder you may write to" in refused(*embed, "file/e.h5ad")


@pytest.mark.usefixtures("no_work")
def test_settings_are_refused_before_any_work(files, refused):
    fit = ("fit", files[0], "--out", "out", "--set")
    assert "graph.nix" in refused(*fit, "graph.nix=3")
    assert "Available options in 'graph': delaunay knn radius" in refused(*fit, "graph=nix")
    assert "settings lack graph" in refused(*fit, "~graph")
    refused(*fit, "graph=null")
    refused(*fit, "graph.n_neighbors")


@pytest.mark.parametrize(
    "setting",
    [
        "graph.n_neighbors=0",
        "graph.n_neighbors=abc",
        "+graph.nix=3",
        "graph._target_=nix.Nix",
        "graph._target_=stgraph.graph.builders.Nix",
        "model.heads=3",
        "objective.masked_cell.mask_rate=2",
        "trainer.precision=nix",
        "encoder.n_components=0",
        "domains.n_domains=201",
        "graph.n_neighbors=200",
    ],
)
def test_senseless_settings(files, refused, setting):
    refused("fit", files[0], "--out", "new/deep/out", *SMALL, "--set", setting)


def test_overwrite_replaces_all_of_a_run(files, cli, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.txt").write_text("old")
    (tmp_path / "out" / "config.json").touch()
    assert cli("fit", files[0], "--out", "out/../out", *SMALL, "--overwrite").code == 0
    assert (tmp_path / "out" / "report.html").is_file()
    assert not (tmp_path / "out" / "old.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_overwrite_replaces_an_embedding(files, finished, cli, tmp_path):
    (tmp_path / "e.h5ad").write_text("old")
    assert cli("embed", files[0], "--model", finished.out, "--out", "e.h5ad", "--overwrite").code == 0
    assert "X_stgraph" in ad.read_h5ad(tmp_path / "e.h5ad").obsm
    assert [path.name for path in tmp_path.iterdir()] == ["e.h5ad"]


def test_a_failure_leaves_the_old_run(files, refused, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.txt").write_text("old")
    (tmp_path / "out" / "config.json").touch()
    (tmp_path / "e.h5ad").write_text("old")
    refused("fit", files[0], "--out", "out", "--overwrite", *SMALL, "--n-domains", "500")
    refused("embed", files[0], "--model", "nix", "--out", "e.h5ad", "--overwrite")


def test_control_c_leaves_nothing(files, cli, monkeypatch, tmp_path):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("stgraph.cli.run.write_report", interrupt)
    result = cli("fit", files[0], "--out", "new/out", *SMALL)
    assert result.code == 130
    assert result.err.splitlines()[-1] == "interrupted: nothing was written."
    assert list(tmp_path.iterdir()) == []


# Bad slices -------------------------------------------------------------------------------


def _set_pos(value):
    def change(adata):
        adata.obsm["spatial"][3, 1] = value

    return change


def _set_count(value):
    def change(adata):
        adata.X = adata.X.astype(np.float64)
        adata.X.data[5] = value

    return change


def _same_names(adata):
    adata.obs_names = ["same", "same", *adata.obs_names[2:]]


BAD = {
    "no positions": (lambda a: a.obsm.pop("spatial"), r"no obsm\['spatial'\]"),
    "NaN position": (_set_pos(np.nan), "1 cells have NaN or infinite coordinates"),
    "infinite position": (_set_pos(np.inf), "1 cells have NaN or infinite coordinates"),
    "negative count": (_set_count(-1.0), "negative"),
    "fractional count": (_set_count(0.5), r"fractions .*--layer"),
    "NaN count": (_set_count(np.nan), "NaN"),
    "all zero": (lambda a: a.X.data.fill(0), "all counts in X are zero"),
    "one point": (lambda a: a.obsm["spatial"].fill(7), "all 200 cells lie at one point"),
    "same cell names": (_same_names, "1 duplicated cell names"),
    "no cells": (lambda a: a[:0].copy(), r"nothing in it \(0 cells"),
    "no genes": (lambda a: a[:, :0].copy(), r"nothing in it \(200 cells x 0 genes"),
    "few cells": (lambda a: a[:9].copy(), "bad: The slice has 9 cells, too few for"),
    "one cell": (lambda a: a[:1].copy(), "bad: there is one cell only"),
}


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
@pytest.mark.parametrize("what", BAD)
def test_bad_slices(refused, files, tmp_path, what):
    change, message = BAD[what]
    adata = ad.read_h5ad(files[0])
    changed = change(adata)
    (changed if isinstance(changed, ad.AnnData) else adata).write_h5ad(tmp_path / "bad.h5ad")
    assert re.search(message, refused("fit", "bad.h5ad", "--out", "new/deep/out", *SMALL))


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
@pytest.mark.parametrize("what", BAD)
def test_bad_slices_for_a_model(refused, files, finished, tmp_path, what):
    change, message = BAD[what]
    adata = ad.read_h5ad(files[0])
    changed = change(adata)
    (changed if isinstance(changed, ad.AnnData) else adata).write_h5ad(tmp_path / "bad.h5ad")
    assert re.search(message, refused("embed", "bad.h5ad", "--model", finished.out, "--out", "new/deep/e.h5ad"))


def test_what_is_no_slice_file(refused, files, tmp_path):
    (tmp_path / "text.h5ad").write_text("cells")
    (tmp_path / "half.h5ad").write_bytes(files[0].read_bytes()[: files[0].stat().st_size // 2])
    (tmp_path / "folder.h5ad").mkdir()
    for name, message in (
        ("text", "not a readable h5ad file"),
        ("half", "not a readable h5ad file"),
        ("folder", "is a folder"),
        ("nix", "does not exist"),
    ):
        assert message in refused("fit", files[0], f"{name}.h5ad", "--out", "out", *SMALL)


def test_slices_that_do_not_go_together(refused, files, tmp_path):
    adata = ad.read_h5ad(files[0])
    adata.var_names = [f"ENSG{i}" for i in range(adata.n_vars)]
    adata.write_h5ad(tmp_path / "ensembl.h5ad")
    message = refused("fit", files[0], "ensembl.h5ad", "--out", "out", *SMALL)
    assert "share only 0 genes" in message
    assert "'ENSG0'" in message
    (tmp_path / "other").mkdir()
    shutil.copy(files[0], tmp_path / "other")
    assert "Two slices are called 'first'" in refused("fit", files[0], "other/first.h5ad", "--out", "out", *SMALL)


def test_columns_that_are_not_there(refused, files):
    fit = ("fit", files[0], "--out", "out", *SMALL)
    assert "no column 'nix' to score against; it has: domain" in refused(*fit, "--score-against", "nix")
    assert "no column 'nix' to tell slices apart" in refused(*fit, "--slice-key", "nix")
    assert "no layer 'nix'" in refused(*fit, "--layer", "nix")
    assert "cannot be evaluated" in refused(*fit, "--keep", "nix > 1")
    assert "keeps no cell" in refused(*fit, "--keep", "domain == 'nix'")


def test_more_domains_than_cells(refused, files):
    assert "200 cells cannot be split into 201 domains" in refused(
        "fit", files[0], "--out", "out", *SMALL, "--n-domains", "201"
    )


# Bad models -------------------------------------------------------------------------------


def test_embedding_foreign_genes(refused, files, finished, tmp_path):
    adata = ad.read_h5ad(files[0])
    adata.var_names = [f"ENSG{i}" for i in range(adata.n_vars)]
    adata.write_h5ad(tmp_path / "ensembl.h5ad")
    message = refused("embed", "ensembl.h5ad", "--model", finished.out, "--out", "e.h5ad")
    assert re.search("ensembl has only 0 of the model's 60 genes .*'ENSG0'", message)


def _edit(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def _flip(path):
    content = bytearray(path.read_bytes())
    content[-7] ^= 4
    path.write_bytes(content)


DAMAGES = {
    "missing": (shutil.rmtree, "There is no model directory"),
    "no config": (lambda m: (m / "config.json").unlink(), "is not a model directory"),
    "config no JSON": (lambda m: (m / "config.json").write_text("{"), "is damaged"),
    "config a list": (lambda m: (m / "config.json").write_text("[]"), "not written by stgraph"),
    "config bytes": (lambda m: (m / "config.json").write_bytes(b"\xff\xfe\x00"), "is damaged"),
    "version": (lambda m: _edit(m, lambda c: c.update(format_version=99)), "has format version 99"),
    "weights gone": (lambda m: (m / "model.safetensors").unlink(), "lacks 'model.safetensors'"),
    "weights cut": (
        lambda m: (m / "model.safetensors").write_bytes((m / "model.safetensors").read_bytes()[:1000]),
        "truncated",
    ),
    "bit flipped": (lambda m: _flip(m / "encoder.safetensors"), "has changed since"),
    "weights not listed": (lambda m: _edit(m, lambda c: c["files"].pop("model.safetensors")), "model"),
    "no class": (
        lambda m: _edit(m, lambda c: c["parts"]["model"].update(_target_="nix.Nix")),
        "unless you trust it: pass --trust nix",
    ),
    "other class": (
        lambda m: _edit(m, lambda c: c["parts"]["builder"].update(_target_="stgraph.graph.builders.Nix")),
        "has no 'Nix'",
    ),
    "other size": (
        lambda m: _edit(m, lambda c: c["parts"]["model"].update(hidden_channels=32)),
        r"weights do not fit .* has shape",
    ),
    "senseless size": (
        lambda m: _edit(m, lambda c: c["parts"]["model"].update(hidden_channels=7)),
        "must be a multiple of heads",
    ),
    "no parts": (lambda m: _edit(m, lambda c: c.pop("parts")), "does not describe a model"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_damaged_models(refused, files, model, what):
    damage, message = DAMAGES[what]
    damage(model)
    assert re.search(message, refused("embed", files[0], "--model", model, "--out", "new/e.h5ad"))
