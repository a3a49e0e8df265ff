import anndata as ad
import numpy as np
import pytest

from stgraph.io.write import write_h5ad


def test_what_is_written_is_read(tmp_path, tissue):
    write_h5ad(tissue, tmp_path / "new" / "a.h5ad")
    back = ad.read_h5ad(tmp_path / "new" / "a.h5ad")
    assert (back.X != tissue.X).nnz == 0
    np.testing.assert_array_equal(back.obsm["spatial"], tissue.obsm["spatial"])
    assert back.obs.equals(tissue.obs)
    assert back.uns["stgraph"] == tissue.uns["stgraph"]
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.h5ad"]


def test_a_failure_leaves_the_old_file(tmp_path, tissue):
    path = tmp_path / "a.h5ad"
    path.write_text("old")
    tissue.uns["no place in HDF5"] = object()
    with pytest.raises(Exception, match="object"):
        write_h5ad(tissue, path)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.h5ad"]
