import warnings

import anndata as ad
import numpy as np
import pytest

from stgraph.errors import InputError, StgraphWarning
from stgraph.io.slices import assign_slices, split_slices


def cells(n=6, **obs):
    adata = ad.AnnData(np.arange(n, dtype=float)[:, None])
    for key, values in obs.items():
        adata.obs[key] = values
    return adata


def test_a_file_is_one_slice_of_its_name():
    adata = cells()
    assign_slices(adata, "a")
    assert set(adata.obs["slice_id"]) == {"a"}
    assert adata.obs["slice_id"].dtype == "category"


def test_a_column_tells_slices_apart():
    adata = cells(sample=[1, 2, 1, 2, 1, 2], slice_id="x")
    assign_slices(adata, "a", "sample")
    assert list(adata.obs["slice_id"]) == ["1", "2"] * 3


def test_slice_id_of_the_file_is_used():
    adata = cells(slice_id=["p", "q"] * 3)
    assign_slices(adata, "a")
    assert list(adata.obs["slice_id"]) == ["p", "q"] * 3


@pytest.mark.parametrize("column", ["sample", "library_id", "section", "batch"])
def test_a_column_that_looks_like_slices_is_pointed_out(column):
    with pytest.warns(StgraphWarning, match=rf"obs\['{column}'\] has 2 values.*--slice-key {column}"):
        assign_slices(cells(**{column: ["p", "q"] * 3}), "a")


def test_one_value_is_no_several_slices():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assign_slices(cells(sample="p"), "a")


def test_bad_slice_key():
    with pytest.raises(InputError, match=r"no column 'nix'.*it has: sample"):
        assign_slices(cells(sample="p"), "a", "nix")
    with pytest.raises(InputError, match=r"2 cells have no value in obs\['sample'\]"):
        assign_slices(cells(sample=["p", None, "q", "q", None, "p"]), "a", "sample")


def test_split_gives_each_slice_its_cells_in_order():
    both = cells(slice_id=["q", "p", "q", "p", "q", "p"])
    alone = cells(slice_id="r")
    parts = split_slices([both, alone])
    assert list(parts) == ["q", "p", "r"]
    assert parts["r"] is alone
    assert parts["q"].X.ravel().tolist() == [0, 2, 4]
    assert parts["p"].X.ravel().tolist() == [1, 3, 5]
    assert not parts["q"].is_view
    assert list(parts["q"].obs["slice_id"].astype("category").cat.categories) == ["q"]


def test_two_slices_of_one_name():
    with pytest.raises(InputError, match="Two slices are called 'p'"):
        split_slices([cells(slice_id="p"), cells(slice_id="p")])


@pytest.mark.parametrize("name", ["a/b", "a\\b", "..", ".hidden", "", "x" * 201, "ä" * 150])
def test_a_name_that_cannot_be_a_file(name):
    with pytest.raises(InputError, match="cannot be a file name"):
        split_slices([cells(slice_id=name)])


def test_no_slice():
    with pytest.raises(InputError, match="No slice"):
        split_slices([])


def test_two_slices_of_one_name_are_told_by_file():
    two = [cells(slice_id="p"), cells(slice_id="p")]
    with pytest.raises(InputError, match=r"of 'x/p.h5ad' and 'y/p.h5ad': rename one, or set obs\['slice_id'\] apart"):
        split_slices(two, files=["x/p.h5ad", "y/p.h5ad"])
    with pytest.raises(
        InputError, match=r"of 'a.h5ad' and 'b.h5ad': set obs\['slice_id'\] apart"
    ):  # renaming is no help
        split_slices(two, files=["a.h5ad", "b.h5ad"])
