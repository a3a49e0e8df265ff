import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import anndata as ad
import pandas as pd
import pytest

from stgraph.benchmark import run as run_module
from stgraph.benchmark.grid import Grid
from stgraph.benchmark.run import UNITS, run_benchmark
from stgraph.errors import InputError
from tests.benchmark.conftest import SMALL, TASKS


@pytest.fixture
def runs(monkeypatch):
    """The units that were run."""
    seen = []
    real = run_module._run_unit

    def run_unit(job, unit, slices, model):
        seen.append(unit)
        real(job, unit, slices, model)

    monkeypatch.setattr(run_module, "_run_unit", run_unit)
    return seen


def test_one_table(grid, tmp_path):
    outcome = run_benchmark(grid, tmp_path)
    assert outcome.failures.empty
    table = outcome.table
    scores = table[table["metric"] == "macro_f1"].groupby(["model", "split", "shift"])["value"].mean()
    assert (scores["small"] > scores["majority"] + 0.3).all()
    assert set(table["shift"]) == {"none", "thinned to 30%"}
    assert (table["seconds"] > 0).all()
    assert (table.loc[table["model"] == "small", "fit_seconds"] > 0).all()
    assert table.loc[table["split"] == "other slice", "fit_cells"].eq(1000).all()  # two fits on one slice each
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "table.parquet"), table)
    assert len(pd.read_csv(tmp_path / "table.csv")) == len(table)


def test_what_is_done_is_not_done_again(grid, tmp_path, runs):
    first = run_benchmark(grid, tmp_path).table
    assert len(runs) == 6
    done = sorted((tmp_path / UNITS).iterdir())
    done[0].unlink()  # as if it had been killed before
    done[1].write_text(done[1].read_text()[:-20])  # or while the disk was full
    again = run_benchmark(grid, tmp_path).table
    assert len(runs) == 8
    same = [column for column in first if "seconds" not in column and "bytes" not in column]
    pd.testing.assert_frame_equal(again[same], first[same])


def test_in_parallel_the_same(grid, tmp_path):
    alone = run_benchmark(grid, tmp_path / "alone").table
    with ThreadPoolExecutor(2) as executor:
        together = run_benchmark(grid, tmp_path / "together", executor=executor).table
    same = [column for column in alone if "seconds" not in column and "bytes" not in column]
    pd.testing.assert_frame_equal(together[same], alone[same])


def test_a_model_that_fails_stops_no_other(folder, study, tmp_path, runs):
    models = {"small": SMALL, "broken": {**SMALL, "min_shared_genes": 61, "n_components": 0}}
    grid = Grid.of([study], tasks=TASKS, models=models, splits=["random"], root=folder)
    for _ in range(2):
        outcome = run_benchmark(grid, tmp_path)
        assert set(outcome.table["model"]) == {"small"}
        assert outcome.failures["model"].tolist() == ["broken"]
        assert "positive n_top_genes, n_components" in outcome.failures["reason"].item()
    assert [unit.model for unit in runs] == ["small", "broken", "broken"]  # tried again, for its cause may be gone


def test_units_are_told_of(grid, tmp_path):
    told = []
    run_benchmark(grid, tmp_path, progress=lambda stage, done, total: told.append((stage, done, total)))
    assert told[0] == ("benchmark", 0, 6)
    assert told[-1] == ("benchmark", 6, 6)


def test_files_that_changed_are_run_again(folder, study, tmp_path, runs):
    here = tmp_path / "data"
    shutil.copytree(folder, here)
    grid = Grid.of([study], tasks=TASKS, models={"small": SMALL}, splits=["random"], root=here)
    run_benchmark(grid, tmp_path / "out")
    adata = ad.read_h5ad(here / "a.h5ad")
    adata[:-1].copy().write_h5ad(here / "a.h5ad")
    run_benchmark(grid, tmp_path / "out")
    assert len(runs) == 2


def test_what_is_written_is_plain(grid, tmp_path):
    run_benchmark(grid, tmp_path)
    content = json.loads(next((tmp_path / UNITS).iterdir()).read_text())
    assert content["unit"]["study"] == "made"
    cells = pd.read_parquet(next((tmp_path / "predictions").iterdir()))
    assert list(cells) == ["slice", "x", "y", "truth", "predicted"]
    assert len(cells) == 1000


def test_a_file_that_is_not_there(grid, study, tmp_path):
    away = Grid.of([study], tasks=TASKS, models=["pca"], splits=["random"], root=tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        run_benchmark(away, tmp_path / "out")
