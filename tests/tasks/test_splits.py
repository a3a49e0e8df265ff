import numpy as np
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

import stgraph
from stgraph._config import instantiate, to_config
from stgraph.errors import InputError
from stgraph.graph.spacing import median_spacing
from stgraph.tasks.folds import Fold
from stgraph.tasks.splits import GivenSplit, LeaveOneSliceOut, RandomCells, SpatialBlocks


def tissue(n, seed=0, **columns):
    adata = AnnData(np.zeros((n, 1), dtype=np.float32), obsm={"spatial": np.random.default_rng(seed).random((n, 2))})
    for name, values in columns.items():
        adata.obs[name] = values
    return adata


def counts(folds, slices):
    """How often each cell is in train, validation and test over the folds."""
    kinds = ("train", "validation", "test")
    return {
        kind: {
            name: np.sum([getattr(f, kind).get(name, np.zeros(a.n_obs, bool)) for f in folds], axis=0)
            for name, a in slices.items()
        }
        for kind in kinds
    }


def same(a, b):
    return all(
        f.name == g.name
        and f.fit_on == g.fit_on
        and all(
            getattr(f, k).keys() == getattr(g, k).keys()
            and all((getattr(f, k)[n] == getattr(g, k)[n]).all() for n in getattr(f, k))
            for k in ("train", "validation", "test")
        )
        for f, g in zip(a, b, strict=True)
    )


@pytest.mark.parametrize(
    "split", [RandomCells(), SpatialBlocks(buffer=1.0), LeaveOneSliceOut(), LeaveOneSliceOut("donor"), GivenSplit("s")]
)
def test_a_split_goes_through_its_config_and_depends_on_its_seed_alone(split):
    slices = {name: tissue(200, i, donor=f"d{i // 2}") for i, name in enumerate("abcd")}
    for adata in slices.values():
        adata.obs["s"] = np.repeat(["train", "validation", "test", ""], 50)
    assert instantiate(to_config(split)) == split
    assert same(split.folds(slices, random_state=1), split.folds(slices, random_state=1))
    if not isinstance(split, GivenSplit):
        assert not all(same(split.folds(slices), split.folds(slices, random_state=s)) for s in range(1, 6))
    assert split.leaks == isinstance(split, RandomCells)


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(150, 300),
    n_blocks=st.integers(3, 12),
    n_folds=st.integers(3, 5),
    buffer=st.sampled_from([0.0, 0.7, 1.5]),
    seed=st.integers(0, 99),
)
def test_blocks_judge_each_cell_once_and_keep_their_margin(n, n_blocks, n_folds, buffer, seed):
    slices = {"a": tissue(n, seed), "b": tissue(n + 13, seed + 1)}
    folds = SpatialBlocks(max(n_blocks, n_folds), n_folds, buffer).folds(slices, random_state=seed)
    assert len(folds) == n_folds
    for name, adata in slices.items():
        pos = adata.obsm["spatial"]
        reach = buffer * median_spacing(pos)
        assert (counts(folds, slices)["test"][name] == 1).all()
        for number, fold in enumerate(folds):
            nothing = np.zeros(adata.n_obs, bool)
            train, validation, test = (m.get(name, nothing) for m in (fold.train, fold.validation, fold.test))
            assert (train.astype(int) + validation + test <= 1).all()
            assert fold.fit_on == ("a", "b")
            # By brute force: what is left out is what lies in a margin, and nothing else.
            near_test = cdist(pos, pos[test]).min(axis=1) <= reach
            next_fold = folds[(number + 1) % n_folds].test[name]
            assert (validation == (next_fold & ~near_test)).all()
            near_validation = cdist(pos, pos[validation]).min(axis=1, initial=np.inf) <= reach
            assert (train == (~test & ~next_fold & ~near_test & ~near_validation)).all()


def test_blocks_are_compact_and_dealt_evenly():
    slices = {"a": tissue(1000)}
    folds = SpatialBlocks(10, 5, 0.0).folds(slices)
    assert [int(f.test["a"].sum()) for f in folds] == [200] * 5
    whole = cdist(*[slices["a"].obsm["spatial"]] * 2)
    near = np.argsort(whole, axis=1)[:, 1]
    of_fold = np.argmax([f.test["a"] for f in folds], axis=0)
    assert (of_fold == of_fold[near]).mean() > 0.85


def test_a_margin_over_all_tissue_is_said():
    with pytest.raises(InputError, match=r"leaves no .* cell in the slices a: give SpatialBlocks a smaller buffer"):
        SpatialBlocks(buffer=1000.0).folds({"a": tissue(100)})
    with pytest.raises(InputError, match="a has 4 cells, too few for 15 blocks"):
        SpatialBlocks().folds({"a": tissue(4)})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SpatialBlocks(n_folds=2), "n_folds of at least 3, not 2"),
        (lambda: SpatialBlocks(n_blocks=4), "n_blocks of at least 5, not 4"),
        (lambda: SpatialBlocks(buffer=-1.0), "buffer that is not negative, not -1.0"),
        (lambda: RandomCells(test_share=0.0), "test_share between 0 and 1, not 0.0"),
        (lambda: RandomCells(0.7, 0.3), "leaves no cell to learn from"),
        (lambda: LeaveOneSliceOut(validation_share=1.0), "validation_share between 0 and 1"),
        (lambda: LeaveOneSliceOut(buffer=float("nan")), "buffer that is not negative"),
    ],
)
def test_arguments_are_checked(make, message):
    with pytest.raises(InputError, match=message):
        make()


@settings(max_examples=30, deadline=None)
@given(n=st.integers(10, 200), test=st.floats(0.1, 0.5), validation=st.floats(0.1, 0.4), seed=st.integers(0, 99))
def test_random_cells_are_shared_out(n, test, validation, seed):
    slices = {"a": tissue(n), "b": tissue(n + 3)}
    (fold,) = RandomCells(test, validation).folds(slices, random_state=seed)
    for name, adata in slices.items():
        total = fold.train[name].astype(int) + fold.validation[name] + fold.test[name]
        assert (total == 1).all()
        assert fold.test[name].sum() == round(adata.n_obs * test)
        assert fold.validation[name].sum() == round(adata.n_obs * validation)
    with pytest.raises(InputError, match="a has 3 cells, too few"):
        RandomCells().folds({"a": tissue(3)})


def test_a_slice_that_is_judged_is_not_looked_at():
    slices = {name: tissue(60, i) for i, name in enumerate("abc")}
    folds = LeaveOneSliceOut().folds(slices)
    assert [fold.name for fold in folds] == ["a", "b", "c"]
    for fold in folds:
        assert list(fold.test) == [fold.name]
        assert set(fold.fit_on) == set("abc") - {fold.name}
        # A whole slice chooses, the other is learnt from.
        assert set(fold.train) | set(fold.validation) == set(fold.fit_on)
        assert len(fold.train) == len(fold.validation) == 1
        assert all(m.all() for masks in (fold.train, fold.validation, fold.test) for m in masks.values())
    assert LeaveOneSliceOut().name == "other slice"


def test_with_one_slice_left_blocks_of_it_choose():
    slices = {"a": tissue(400), "b": tissue(300, 1)}
    for fold in LeaveOneSliceOut(buffer=2.0).folds(slices):
        (left,) = fold.fit_on
        assert list(fold.train) == list(fold.validation) == [left]
        pos = slices[left].obsm["spatial"]
        between = cdist(pos[fold.train[left]], pos[fold.validation[left]]).min()
        assert between > 2 * median_spacing(pos)
        assert fold.validation[left].mean() == pytest.approx(0.2, abs=0.01)


def test_slices_of_a_donor_are_left_out_together():
    slices = {name: tissue(50, i, donor=f"d{i // 2}") for i, name in enumerate("abcdef")}
    split = LeaveOneSliceOut("donor")
    folds = split.folds(slices)
    assert split.name == "other donor"
    assert [(f.name, list(f.test)) for f in folds] == [("d0", ["a", "b"]), ("d1", ["c", "d"]), ("d2", ["e", "f"])]
    for fold in folds:
        assert not set(fold.fit_on) & set(fold.test)
        # Another donor chooses.
        assert len({slices[n].obs["donor"].iloc[0] for n in fold.validation}) == 1
        assert len(fold.validation) == 2
    two = LeaveOneSliceOut("donor").folds({name: slices[name] for name in "abcd"})
    assert len(two[0].train) == len(two[0].validation) == 1


@pytest.mark.parametrize(
    ("slices", "split", "message"),
    [
        ({"a": tissue(50)}, LeaveOneSliceOut(), r"there is one slice only \(a\): add a slice, or use SpatialBlocks"),
        (
            {"a": tissue(50, donor="x"), "b": tissue(50, donor="x")},
            LeaveOneSliceOut("donor"),
            r"one value of obs\['donor'\] only \(x\)",
        ),
        ({"a": tissue(50), "b": tissue(50)}, LeaveOneSliceOut("donor"), "a: obs has no column 'donor'"),
        (
            {"a": tissue(50, donor=["x", "y"] * 25), "b": tissue(50)},
            LeaveOneSliceOut("donor"),
            "must have one value in a slice to leave it out by, and it has 2: x, y",
        ),
        ({"a": tissue(50), "b": tissue(50)}, LeaveOneSliceOut(buffer=1000.0), "leaves no cell to learn from"),
        ({"a": tissue(50, s="train")}, GivenSplit("s"), "names no test cell"),
        ({"a": tissue(50, s="testing")}, GivenSplit("s"), "must say train, validation or test, or nothing, not 'testi"),
        ({"a": tissue(50)}, GivenSplit("s"), "names no train cell"),
    ],
)
def test_what_cannot_be_divided_is_said(slices, split, message):
    with pytest.raises(InputError, match=message):
        split.folds(slices)


def test_a_given_split_is_followed():
    said = np.array(["train"] * 20 + ["validation"] * 10 + ["test"] * 15 + [None] * 5, dtype=object)
    slices = {"a": tissue(50, s=said), "b": tissue(30, s="test"), "c": tissue(30)}
    (fold,) = GivenSplit("s", leaks=True).folds(slices)
    assert fold.fit_on == ("a",)
    assert (fold.train["a"] == (said == "train")).all()
    assert (fold.validation["a"] == (said == "validation")).all()
    assert (fold.test["a"] == (said == "test")).all()
    assert fold.test["b"].all()
    assert set(fold.test) == {"a", "b"}
    assert GivenSplit("s", leaks=True).leaks
    assert not GivenSplit("s").leaks


def test_a_fold_refuses_cells_that_learn_and_judge():
    mask = np.array([True, False])
    with pytest.raises(InputError, match="cells of 'a' that both learn or choose and judge"):
        Fold("f", ("a",), {"a": mask}, {}, {"a": mask})
    with pytest.raises(InputError, match="both learn or choose"):
        Fold("f", ("a",), {"a": mask}, {"a": mask}, {})
    with pytest.raises(InputError, match="learns from cells of 'a', which is not in its fit_on"):
        Fold("f", ("b",), {}, {"a": mask}, {})


@pytest.mark.real
def test_the_default_blocks_leave_enough_of_cortex(data_dir):
    adata = stgraph.read(data_dir / "dlpfc" / "dlpfc_151673.h5ad")
    for fold in SpatialBlocks().folds({"a": adata}):
        learnt = adata.obs["domain"][fold.train["a"] | fold.validation["a"]].dropna()
        assert fold.train["a"].mean() > 0.3
        assert learnt.nunique() == 7
