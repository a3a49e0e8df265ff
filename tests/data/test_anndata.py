import anndata
import numpy as np
import pandas as pd
import pytest
import torch

from stgraph.data.anndata import to_anndata
from stgraph.data.convert import MEMBER_OF, NEAR, to_hetero_data
from stgraph.graph.build import build_graph
from stgraph.graph.hierarchy import Hierarchical
from stgraph.graph.virtual_cells import JointLeiden


def test_slots(layered):
    adata = to_anndata(layered)
    np.testing.assert_array_equal(adata.obsm["X_features"], layered.x)
    np.testing.assert_array_equal(adata.obsm["spatial"], layered.pos)
    assert (adata.obsp["spatial_distances"] != layered.near).nnz == 0
    assert adata.obsp["spatial_connectivities"].nnz == layered.near.nnz
    assert adata.uns["spatial_neighbors"]["connectivities_key"] == "spatial_connectivities"
    assert set(adata.obs["slice_id"]) == {layered.slice_id}
    assert adata.uns["stgraph"]["unit"] == "um"
    first, second = layered.virtual, layered.virtual.parent
    assert adata.obs["stgraph_virtual_cell"].astype(int).tolist() == first.membership.tolist()
    assert adata.obs["stgraph_virtual_cell2"].astype(int).tolist() == second.membership[first.membership].tolist()
    assert set(adata.obs["stgraph_virtual_cell3"]) == {"0"}


@pytest.mark.parametrize("through", ["graph", "data"])
def test_there_and_back(tissue, through, tmp_path):
    graph = build_graph(tissue)
    data = to_hetero_data(graph)
    to_anndata(graph if through == "graph" else data).write_h5ad(tmp_path / "a.h5ad")
    again = to_hetero_data(anndata.read_h5ad(tmp_path / "a.h5ad"), use_rep="X_features")
    assert (again.slice_id, again.unit) == (data.slice_id, data.unit)
    assert torch.equal(again["cell"].x, data["cell"].x)
    assert torch.equal(again[NEAR].edge_index, data[NEAR].edge_index)
    torch.testing.assert_close(again[NEAR].edge_attr, data[NEAR].edge_attr, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(again["cell"].pos, data["cell"].pos, rtol=0, atol=1e-3)
    crossed = pd.crosstab(again[MEMBER_OF].edge_index[1].numpy(), data[MEMBER_OF].edge_index[1].numpy())
    assert ((crossed > 0).sum(axis=1) == 1).all()
    assert ((crossed > 0).sum(axis=0) == 1).all()


def test_levels_come_back(tissue):
    graph = build_graph(tissue, virtual_cells=Hierarchical(JointLeiden(resolution=6.0), max_coarse=(4,)))
    data, again = to_hetero_data(graph), to_hetero_data(to_anndata(graph), use_rep="X_features")
    assert len(graph.virtual) > 10
    assert again.metadata() == data.metadata()
    for edge_type in data.edge_types:
        assert torch.equal(again[edge_type].edge_index, data[edge_type].edge_index), edge_type
        torch.testing.assert_close(again[edge_type].edge_attr, data[edge_type].edge_attr, rtol=1e-4, atol=1e-3)


def test_without_virtual_cells_and_unit(tissue):
    del tissue.uns["stgraph"]
    with pytest.warns(UserWarning, match="unit"):
        graph = build_graph(tissue, virtual_cells=None)
    adata = to_anndata(to_hetero_data(graph))
    assert "stgraph_virtual_cell" not in adata.obs
    assert adata.uns["stgraph"]["unit"] == "unknown"
    assert to_hetero_data(adata, use_rep="X_features").unit == "unknown"
