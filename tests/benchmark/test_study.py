import numpy as np
import pytest

from stgraph.benchmark.study import Study
from stgraph.errors import InputError


def test_labels_stand_where_tasks_look_for_them(folder, study):
    slices = study.load(folder)
    assert len(slices) == 2
    for adata in slices.values():
        np.testing.assert_array_equal(adata.obs["domain"].astype(str), adata.obs["layer"].astype(str))


def test_labels_that_are_none(folder):
    plain = Study("made", ["a.h5ad"], labels={"domain": "layer"}).load(folder)
    first = next(iter(plain.values())).obs["domain"]
    gone = str(first.iloc[0])
    study = Study("made", ["a.h5ad"], labels={"domain": "layer"}, missing={"domain": [gone]})
    kept = next(iter(study.load(folder).values())).obs["domain"]
    assert kept.isna().sum() == (first == gone).sum() > 0
    assert gone not in kept.cat.categories


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"files": []}, "needs a list of files"),
        ({"files": "a.h5ad"}, "needs a list of files"),
        ({"files": ["a.h5ad"], "missing": {"domain": ["x"]}}, "not its labels"),
    ],
)
def test_bad_studies(arguments, message):
    with pytest.raises(InputError, match=message):
        Study("made", **arguments)


def test_a_column_or_a_file_that_is_not_there(folder):
    with pytest.raises(InputError, match=r"has no column 'nothing'; it has: .*layer"):
        Study("made", ["a.h5ad"], labels={"domain": "nothing"}).load(folder)
    with pytest.raises(InputError, match="is no file"):
        Study("made", ["c.h5ad"]).hashes(folder)
