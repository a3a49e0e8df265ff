import pandas as pd
import pytest
from typer.testing import CliRunner

import stgraph
from stgraph.cli.main import app


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0].write_h5ad(folder / "a.h5ad")
    return folder


def call(*arguments):
    return CliRunner().invoke(app, ["benchmark", *map(str, arguments)])


def test_a_folder_of_slices(data, tmp_path):
    out = tmp_path / "out"
    done = call(
        "--data", data, "--models", "majority,pca", "--tasks", "region", "--label", "domain=domain", "--out", out
    )
    assert done.exit_code == 0, done.output
    assert set(pd.read_csv(out / "table.csv")["model"]) == {"majority", "pca"}
    assert (out / "heatmap.svg").is_file()
    again = call(
        "--data", data / "a.h5ad", "--models", "pca", "--tasks", "region", "--splits", "random", "--out", tmp_path / "o"
    )
    assert again.exit_code == 0, again.output


def test_what_failed_is_said(data, tmp_path):
    done = call("--data", data, "--models", "pca,nothing", "--tasks", "region", "--out", tmp_path / "out")
    assert isinstance(done.exception, stgraph.InputError)
    assert "no model called 'nothing'" in str(done.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "region"], "which models"),
        (["--models", "pca"], "which tasks"),
        (["--models", "pca", "--tasks", "region", "--label", "domain"], "NAME=COLUMN"),
        (["--models", "pca", "--tasks", "region", "--ours", "mine"], "--ours mine is none of the models that run: pca"),
    ],
)
def test_bad_options(data, tmp_path, arguments, message):
    done = call("--data", data, "--out", tmp_path / "out", *arguments)
    assert message in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_no_data(tmp_path):
    done = call("--data", tmp_path / "nothing", "--out", tmp_path / "out", "--models", "pca", "--tasks", "region")
    assert "does not exist" in str(done.exception)
    done = call("--data", tmp_path, "--out", tmp_path / "out", "--models", "pca", "--tasks", "region")
    assert "holds no .h5ad" in str(done.exception)


def test_niches_are_called_niches(data, tmp_path):
    given = (
        "--data",
        data,
        "--models",
        "majority",
        "--tasks",
        "niche",
        "--splits",
        "random",
        "--out",
        tmp_path / "out",
    )
    done = call(*given)
    assert "no labels 'stgraph_niche': name their column as in labels: {niche: COLUMN}" in str(done.exception)
    assert isinstance(done.exception, stgraph.InputError)
    assert not (tmp_path / "out").exists()
    done = call(*given, "--label", "niche=domain")
    assert done.exit_code == 0, done.output
    assert set(pd.read_csv(tmp_path / "out" / "table.csv")["task"]) == {"niche"}


def test_how_far_it_is_stands_in_the_log(data, tmp_path):
    given = ("--data", data, "--tasks", "region", "--splits", "random", "--out", tmp_path / "out")
    done = call(*given, "--models", "majority,pca", "--seeds", "2")
    lines = [line for line in done.output.splitlines() if line.startswith("benchmark: ")]
    assert len(lines) == 5
    assert lines[0] == "benchmark: 0 of 4 done"
    assert lines[1].startswith("benchmark: 1 of 4 done, about ")
    assert lines[-1] == "benchmark: 4 of 4 done"
