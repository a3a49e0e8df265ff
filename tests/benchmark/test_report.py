import shutil

import pandas as pd
import pytest

from stgraph.benchmark.report import simple_models, write_report
from stgraph.errors import InputError


def test_tables_and_pictures(finished, tmp_path):
    shutil.copytree(finished.out, tmp_path, dirs_exist_ok=True)
    table = finished.outcome.table
    written = write_report(table, tmp_path, ours="small")
    names = {path.relative_to(tmp_path).as_posix() for path in written}
    assert {"means.csv", "means.md", "heatmap.svg", "differences.csv"} <= names
    assert {name for name in names if name.startswith("maps/")} == {
        "maps/made_region_synthetic_0.png",
        "maps/made_region_synthetic_1.png",
    }
    assert all(path.stat().st_size > 100 for path in written)
    differences = pd.read_csv(tmp_path / "differences.csv")
    assert (differences["best_simple"] == "majority").all()
    assert (differences["difference"] > 0.2).all()


def test_simple_models_are_the_baselines():
    assert {"majority", "pca", "neighbor_pca"} <= simple_models()
    assert "stgraph" not in simple_models()


def test_nothing_to_report(tmp_path):
    with pytest.raises(InputError, match="gave no numbers"):
        write_report(pd.DataFrame(), tmp_path)


def test_without_any_split(finished, tmp_path):
    """A table of clusterings alone has no column that names the splits."""
    table = finished.outcome.table.assign(split=None, shift="none").drop(columns="split_name")
    assert not any(
        path.suffix == ".png" and path.parent.name == "maps" for path in write_report(table, tmp_path, ours="small")
    )
