import numpy as np
import pandas as pd
import pytest

from stgraph.benchmark.grid import Grid
from stgraph.benchmark.run import run_benchmark
from stgraph.benchmark.scaling import against_first, scaling
from stgraph.benchmark.scaling_report import write_scaling
from stgraph.benchmark.study import Study
from stgraph.errors import InputError
from stgraph.io.read import read
from stgraph.metrics.intervals import clustered_interval, mean_interval
from stgraph.metrics.ranks import paired_difference
from tests.benchmark.conftest import SIMPLE, SMALL, TASKS


def planted(slices="abc", ks=(8, 16), seeds=(0, 1, 2), metric="macro_f1"):
    """k = 16 gains 0.1 on k = 8 on every slice, whose own level differs by much more."""
    rng = np.random.default_rng(0)
    rows = []
    for i, name in enumerate(slices):
        for k in ks:
            for seed in seeds:
                value = 0.2 * (i + 1) + (0.1 if k == 16 else 0.0) + 0.001 * rng.normal()
                rows.append({"slice": name, "k": k, "seed": seed, "value": value, "key": f"{k},{seed}"})
    shared = {"study": "s", "task": "region", "target": "domain", "split": "slice", "leaks": False, "shift": "none"}
    cost = {"fit_seconds": 3.0, "fit_cells": 1500, "transform_seconds": 0.5, "transform_cells": 500, "fit_bytes": 1e6}
    table = pd.DataFrame(rows).assign(**shared, **cost, metric=metric, num_parameters=1000.0)
    return table.assign(model="k=" + table["k"].astype(str), size="small")


def test_means_are_over_slices_of_means_over_seeds():
    table = planted()
    points = scaling(table, ["size", "k"]).set_index("k")
    for k in (8, 16):
        rows = table[table["k"] == k]
        assert points.at[k, "value"] == pytest.approx(rows["value"].mean())
        low, high = clustered_interval(rows["value"], rows["slice"])
        assert points.loc[k, ["low", "high"]].tolist() == pytest.approx([low, high])
    assert set(points["interval"]) == {"slices"}
    assert set(points["n_seeds"]) == {3}


def test_of_one_slice_the_interval_is_over_seeds_and_says_so():
    table = planted("a")
    points = scaling(table, ["k"])
    assert set(points["interval"]) == {"seeds"}
    expected = mean_interval(table.loc[table["k"] == 8, "value"])
    assert points.loc[0, ["low", "high"]].tolist() == pytest.approx(list(expected))
    assert scaling(planted("a", seeds=(0,)), ["k"])["low"].isna().all()


def test_scores_that_are_missing_shift_no_interval():
    table = planted()
    table.loc[(table["k"] == 8) & (table["slice"] == "a"), "value"] = np.nan
    points = scaling(table, ["k"]).set_index("k")
    assert points["n_slices"].to_dict() == {8: 2, 16: 3}


def test_costs_are_for_a_thousand_cells():
    points = scaling(planted(), ["k"])
    assert points["train_seconds_per_1000"].tolist() == [2.0, 2.0]
    assert points["describe_seconds_per_1000"].tolist() == [1.0, 1.0]
    assert points["num_parameters"].tolist() == [1000.0, 1000.0]


def test_differences_are_far_surer_than_scores():
    table = planted()
    [row] = against_first(table, ["size", "k"], "k").to_dict("records")
    assert (row["k"], row["against"], row["n_slices"], row["n_pairs"]) == (16, 8, 3, 9)
    pairs = table.pivot_table(index=["slice", "seed"], columns="k", values="value")
    expected = paired_difference(pairs[16], pairs[8], pairs.index.get_level_values("slice"))
    assert [row[name] for name in ("difference", "low", "high")] == pytest.approx(list(expected))
    assert row["low"] > 0.09
    points = scaling(table, ["k"])
    assert (points["high"] - points["low"]).min() > 0.3


def test_less_may_be_better():
    table = planted(metric="jsd")
    assert against_first(table, ["k"], "k")["difference"].item() < -0.09


def test_a_value_that_never_ran_is_left_out():
    table = planted(ks=(8, 16, 32))
    table = table[~((table["k"] == 32) & (table["slice"] != "b"))]
    rows = against_first(table, ["k"], "k").set_index("k")
    assert rows["n_slices"].to_dict() == {16: 3, 32: 1}


def test_bad_axes(tmp_path):
    with pytest.raises(InputError, match="no column width"):
        scaling(planted(), ["width"])
    with pytest.raises(InputError, match="gave no numbers"):
        scaling(pd.DataFrame(), [])
    with pytest.raises(InputError, match="'width' is no axis of this sweep; there are: k"):
        write_scaling(planted(), ["k"], tmp_path, against="width")


def test_what_is_written(tmp_path):
    table = pd.concat([planted(), planted(ks=(8,)).assign(model="pca", k=np.nan, size=None, num_parameters=np.nan)])
    written = {path.name for path in write_scaling(table, ["size", "k"], tmp_path, against="k", size="size")}
    assert written == {path.name for path in tmp_path.iterdir()}
    names = {f"{figure}.{suffix}" for figure in ("metric_k", "cost_k", "metric_size") for suffix in ("png", "svg")}
    assert written == {"scaling.csv", "differences.csv", *names}
    points = pd.read_csv(tmp_path / "scaling.csv")
    assert points["k"].isna().tolist() == [False, False, True]
    svg = (tmp_path / "metric_k.svg").read_text()
    assert svg.count("<!-- pca -->") == 1
    assert "dots: single slices" in svg


def test_axes_are_columns_of_the_table(folder, study, tmp_path):
    models = {"k=20": SIMPLE, "k=5": {**SIMPLE, "n_neighbors": 5}, "plain": SMALL}
    axes = {"k=20": {"k": 20, "kind": "mean"}, "k=5": {"k": 5, "kind": "mean"}}
    grid = Grid.of([study], tasks=TASKS, models=models, splits=["random"], root=folder)
    plain = run_benchmark(grid, tmp_path).table
    with_axes = Grid(grid.studies, grid.tasks, grid.models, grid.splits, seeds=grid.seeds, root=grid.root, axes=axes)
    table = run_benchmark(with_axes, tmp_path).table  # nothing runs again: axes decide no number
    assert list(table)[:5] == ["study", "model", "seed", "k", "kind"]
    pd.testing.assert_frame_equal(table.drop(columns=["k", "kind"]), plain)
    found = table.groupby("model")[["k", "kind"]].first()
    assert found.loc["k=20"].tolist() == [20, "mean"]
    assert found.loc["plain"].isna().all()
    assert pd.read_csv(tmp_path / "table.csv", dtype=str).set_index("model").loc["k=20", "k"].iloc[0] == "20"
    assert pd.read_parquet(tmp_path / "table.parquet")["k"].dtype == "Int64"
    mixed = {"k=20": {"k": 20}, "k=5": {"k": "few"}}
    with_text = Grid(grid.studies, grid.tasks, grid.models, grid.splits, seeds=grid.seeds, root=grid.root, axes=mixed)
    assert set(run_benchmark(with_text, tmp_path).table["k"].dropna()) == {"20", "few"}


def test_weights_are_counted(folder, study, tmp_path):
    trainer = {"_target_": "stgraph.training.loop.Trainer", "max_steps": 1, "warmup_steps": 1}
    model = {
        "_target_": "stgraph.tasks.learned.LearnedEncoder",
        "settings": {"trainer": trainer, "virtual_cells": None},
    }
    grid = Grid.of([study], tasks=TASKS, models={"net": model}, splits=["random"], root=folder)
    table = run_benchmark(grid, tmp_path).table
    from stgraph.models.se2_transformer import SE2Transformer

    expected = sum(weight.numel() for weight in SE2Transformer(in_channels=20).parameters())
    assert table["num_parameters"].unique().tolist() == [expected]


def test_a_study_without_a_layer_is_named_as_before():
    assert "layer" not in Study("a", ["a.h5ad"]).config()
    assert Study("a", ["a.h5ad"], layer="counts").config()["layer"] == "counts"


def test_what_a_study_is_read_with(folder, monkeypatch):
    seen = {}

    def reading(path, **arguments):
        seen[path.name] = arguments
        return read(path)

    monkeypatch.setattr("stgraph.benchmark.study.read", reading)
    Study("made", ["a.h5ad", "b.h5ad"], um_per_unit={"b": 2.0}, layer="raw").load(folder)
    assert [seen[name]["um_per_unit"] for name in ("a.h5ad", "b.h5ad")] == [None, 2.0]
    assert seen["a.h5ad"]["layer"] == "raw"
    Study("made", ["a.h5ad"], um_per_unit=3.0).load(folder)
    assert seen["a.h5ad"]["um_per_unit"] == 3.0


def test_costs_are_summed_over_what_was_done_and_not_over_who_used_it():
    table = planted()
    two = pd.concat([table, table.assign(task="cell_type", key=table["key"] + ",b")])  # one training, two tasks
    points = scaling(two, ["k"])
    assert points["train_seconds_total"].tolist() == [9.0] * 4  # of three seeds
    assert points["describe_seconds_total"].tolist() == [1.5] * 4


def test_what_is_beside_is_no_point_though_it_has_a_method(tmp_path):
    swept = planted().assign(method="mean")
    pca = planted(ks=(8,)).assign(model="pca", k=np.nan, method="pca")
    write_scaling(pd.concat([swept, pca]), ["method", "k"], tmp_path, against="k", beside=["pca"])
    svg = (tmp_path / "metric_k.svg").read_text()
    assert "<!-- pca -->" in svg
    assert "<!-- mean -->" not in svg  # one method only: no legend is needed
    assert "<!-- neighbours k -->" in svg
    assert "<!-- macro_f1 -->" in svg
