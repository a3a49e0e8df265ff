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


def test_one_table(finished):
    outcome = finished.outcome
    assert outcome.failures.empty
    table = outcome.table
    scores = table[table["metric"] == "macro_f1"].groupby(["model", "split", "shift"])["value"].mean()
    assert (scores["small"] > scores["majority"] + 0.3).all()
    assert set(table["shift"]) == {"none", "thinned"}
    assert (table["seconds"] > 0).all()
    assert (table.loc[table["model"] == "small", "fit_seconds"] > 0).all()
    assert table.loc[table["split"] == "slice", "fit_cells"].eq(1000).all()  # two fits on one slice each
    pd.testing.assert_frame_equal(pd.read_parquet(finished.out / "table.parquet"), table)
    assert len(pd.read_csv(finished.out / "table.csv")) == len(table)


def test_what_is_done_is_not_done_again(grid, finished, tmp_path, runs):
    first = finished.outcome.table
    shutil.copytree(finished.out, tmp_path, dirs_exist_ok=True)
    done = sorted((tmp_path / UNITS).iterdir())
    assert len(done) == 6
    done[0].unlink()  # as if it had been killed before
    done[1].write_text(done[1].read_text()[:-20])  # or while the disk was full
    again = run_benchmark(grid, tmp_path).table
    assert sorted(unit.key for unit in runs) == sorted(path.stem for path in done[:2])
    same = [column for column in first if "seconds" not in column and "bytes" not in column]
    pd.testing.assert_frame_equal(again[same], first[same])


def test_in_parallel_the_same(grid, finished, tmp_path):
    alone = finished.outcome.table
    with ThreadPoolExecutor(2) as executor:
        together = run_benchmark(grid, tmp_path, executor=executor).table
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


def test_the_table_says_what_the_grid_says(folder, study, tmp_path):
    two = {name: {**TASKS["region"], "n_draws": 2} for name in ("first", "second")}
    splits = {
        name: {"_target_": "stgraph.tasks.splits.RandomCells", "test_share": share}
        for name, share in (("few", 0.1), ("many", 0.4))
    }
    grid = Grid.of([study], tasks=two, models={"small": SMALL}, splits=splits, root=folder)
    table = run_benchmark(grid, tmp_path).table
    assert len(table[["task", "split"]].drop_duplicates()) == 4
    assert set(table["split_name"]) == {"random cells"}


def test_units_are_told_of(finished):
    assert finished.told[0] == ("benchmark", 0, 6)
    assert finished.told[-1] == ("benchmark", 6, 6)


def test_files_that_changed_are_run_again(folder, study, tmp_path, runs):
    here = tmp_path / "data"
    shutil.copytree(folder, here)
    grid = Grid.of([study], tasks=TASKS, models={"small": SMALL}, splits=["random"], root=here)
    run_benchmark(grid, tmp_path / "out")
    adata = ad.read_h5ad(here / "a.h5ad")
    adata[:-1].copy().write_h5ad(here / "a.h5ad")
    run_benchmark(grid, tmp_path / "out")
    assert len(runs) == 2


def test_what_is_written_is_plain(finished):
    content = json.loads(next((finished.out / UNITS).iterdir()).read_text())
    assert content["unit"]["study"] == "made"
    cells = pd.read_parquet(next((finished.out / "predictions").iterdir()))
    assert list(cells) == ["slice", "x", "y", "truth", "predicted"]
    assert len(cells) == 1000


def test_a_file_that_is_not_there(grid, study, tmp_path):
    away = Grid.of([study], tasks=TASKS, models=["pca"], splits=["random"], root=tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        run_benchmark(away, tmp_path / "out")
