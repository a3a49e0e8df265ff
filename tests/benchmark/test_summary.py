import numpy as np
import pandas as pd
import pytest

from stgraph.benchmark.summary import against_best, contests, means, ranks
from stgraph.errors import InputError

BASE = {"task": "region", "target": "domain", "split": "blocks", "leaks": False, "shift": "none", "metric": "macro_f1"}


def table(scores, **changes):
    """Scores by model, each a list over slices (two seeds each)."""
    rows = []
    for model, values in scores.items():
        for place, value in enumerate(values):
            for seed, off in ((0, -0.01), (1, 0.01)):
                rows.append({**BASE, "study": f"s{place % 2}", "slice": f"slice{place}", "model": model, "seed": seed})
                rows[-1] |= {"value": value + off, **changes}
    return pd.DataFrame(rows)


def test_the_primary_metric_of_each_task():
    both = pd.concat(
        [table({"a": [0.5]}), table({"a": [0.9]}, metric="accuracy"), table({"a": [3]}, task="x", metric="mae")]
    )
    rows = contests(both)
    assert set(zip(rows["task"], rows["metric"], strict=True)) == {("region", "macro_f1"), ("x", "mae")}
    assert (rows.loc[rows["metric"] == "mae", "score"] < 0).all()


def test_settings_stay_apart():
    rows = contests(pd.concat([table({"a": [0.5]}, n_labels=1), table({"a": [0.7]}, n_labels=10)]))
    mean = means(rows)
    assert mean.set_index("setting")["value"].round(6).to_dict() == {"labels 1": 0.5, "labels 10": 0.7}


def test_means_are_over_slices():
    mean = means(contests(table({"a": [0.4, 0.6, 0.8, 0.5]})), by=("task",))
    row = mean.iloc[0]
    assert row["value"] == pytest.approx(0.575)
    assert (row["n_slices"], row["n_seeds"]) == (4, 2)
    assert row["low"] < 0.575 < row["high"]


def test_against_the_best_simple_method():
    ours, good, bad = [0.6, 0.7, 0.8, 0.9], [0.55, 0.66, 0.74, 0.85], [0.7, 0.1, 0.1, 0.1]
    found = against_best(contests(table({"ours": ours, "good": good, "bad": bad})), "ours", ["good", "bad"]).iloc[0]
    assert found["best_simple"] == "good"
    assert found["difference"] == pytest.approx(0.05)
    assert 0 < found["low"] < 0.05 < found["high"]
    assert found["n_slices"] == 4


def test_where_less_is_better_signs_turn():
    rows = contests(table({"ours": [0.2, 0.1], "simple": [0.3, 0.2]}, metric="jsd"))
    found = against_best(rows, "ours", ["simple"]).iloc[0]
    assert found["difference"] == pytest.approx(0.1)
    assert found["ours"] == pytest.approx(0.15)


def test_only_pairs_count():
    whole = table({"ours": [0.6, 0.7], "simple": [0.5, 0.6]})
    rows = contests(whole[~((whole["model"] == "ours") & (whole["slice"] == "slice1"))])
    found = against_best(rows, "ours", ["simple"]).iloc[0]
    assert (found["n_slices"], found["simple"]) == (1, pytest.approx(0.5))
    assert np.isnan(found["low"])


def test_ranks_leave_leaks_out():
    fair = table({"ours": [0.6, 0.7], "simple": [0.5, 0.6]})
    leaking = table({"ours": [0.1, 0.1], "simple": [0.9, 0.9]}, split="random", leaks=True)
    mean_rank, n_studies = ranks(contests(pd.concat([fair, leaking])))
    assert mean_rank.to_dict() == {"ours": 1.0, "simple": 2.0}
    assert n_studies == 2


def test_unknown_models():
    with pytest.raises(InputError, match="no model nothing; it has"):
        against_best(contests(table({"a": [0.5]})), "nothing", ["a"])
    with pytest.raises(InputError, match="cannot be ranked"):
        ranks(contests(table({"a": [0.5]}, leaks=True)))
