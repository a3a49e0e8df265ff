import numpy as np
import pandas as pd
import pytest

from stgraph.errors import InputError
from stgraph.tasks.target import UNKNOWN, Target, label_target


def test_labels_become_classes_in_order_of_their_names(slices):
    study = dict(zip("ab", slices, strict=True))
    study["a"].obs["x"] = pd.Categorical(["q", "p", None, ""] * 80, categories=["q", "p", "", "never"])
    target = label_target(study, "x")
    assert target.names == ("p", "q")
    assert target.of["a"][:4].tolist() == [1, 0, UNKNOWN, UNKNOWN]
    assert (target.of["b"] == UNKNOWN).all()
    assert target.known("a").sum() == 160
    assert not target.known("b").any()


def test_numbers_are_labels_too(tissue):
    tissue.obs["x"] = [1.0, 2.0, np.nan, 2.0] * 80
    assert label_target({"a": tissue}, "x").names == ("1.0", "2.0")


def test_what_is_no_target_is_said(tissue):
    tissue.obs["x"] = "all one"
    with pytest.raises(InputError, match=r"obs\['x'\] has 1 classes in the slices a, and two are needed"):
        label_target({"a": tissue}, "x")
    with pytest.raises(InputError, match=r"obs\['nix'\] has 0 classes.*their columns are: cell_type, domain"):
        label_target({"a": tissue}, "nix")


def test_only_shown_cells_keep_their_truth():
    mask = {"a": np.array([True, False, True])}
    classes = Target("t", "classes", ("p", "q"), {"a": np.array([0, 1, UNKNOWN]), "b": np.array([1, 0])})
    shown = classes.shown(mask)
    assert shown.of["a"].tolist() == [0, UNKNOWN, UNKNOWN]
    assert shown.of["b"].tolist() == [UNKNOWN, UNKNOWN]
    assert classes.of["a"].tolist() == [0, 1, UNKNOWN]
    values = Target("t", "values", ("x", "y"), {"a": np.arange(6.0).reshape(3, 2)})
    assert np.isnan(values.shown(mask).of["a"]).all(axis=1).tolist() == [False, True, False]
    assert values.known("a").all()
    assert values.shown(mask).known("a").tolist() == [True, False, True]
