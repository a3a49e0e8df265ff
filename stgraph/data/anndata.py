"""A slice graph, in PyG or in numpy, as AnnData."""

import pandas as pd
from anndata import AnnData
from torch_geometric.data import HeteroData

from stgraph import _keys
from stgraph.data.convert import from_hetero_data
from stgraph.graph.slice_graph import SliceGraph
from stgraph.graph.slots import write_slots

FEATURES = "X_features"
"""``obsm``, (N, C) float32: the features of the cells of a graph."""


def to_anndata(source: HeteroData | SliceGraph) -> AnnData:
    """Cells, features and graph of one slice as AnnData, for scanpy and squidpy.

    ``to_hetero_data(adata, use_rep="X_features")`` leads back: to the same edges and
    levels of virtual cells, to lengths and means measured anew from the positions, which
    agree up to float32. Of a part, virtual cells without a cell in it are lost.

    Parameters
    ----------
    source
        A slice graph, or what `stgraph.data.convert.to_hetero_data` made of one; not a
        batch.

    Returns
    -------
    AnnData
        N cells. Features are not counts, so ``X`` is empty, and there are no genes.

        ====================================  =================================================
        ``obsm["X_features"]``                (N, C) float32, features of the cells
        ``obsm["spatial"]``                   (N, 2) float64, in the coordinates of the slice
        ``obsp["spatial_connectivities"]``    (N, N) CSR, as squidpy writes them
        ``obsp["spatial_distances"]``         (N, N) CSR, explicit zeros are edges
        ``uns["spatial_neighbors"]``          the keys of these two
        ``obs["slice_id"]``                   name of the slice
        ``obs["stgraph_virtual_cell"]``       category, if there are virtual cells
        ``obs["stgraph_virtual_cell2"]``...   category, of coarser levels if there are any
        ``uns["stgraph"]``                    unit and spacing
        ====================================  =================================================

    Raises
    ------
    InputError
        As `stgraph.data.convert.from_hetero_data`.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.data.anndata import to_anndata
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0])
    >>> adata = to_anndata(graph)
    >>> adata.n_obs, adata.obsm["X_features"].shape, adata.obsp["spatial_distances"].nnz == graph.near.nnz
    (200, (200, 20), True)
    """
    graph = source if isinstance(source, SliceGraph) else from_hetero_data(source)
    n = len(graph)
    obs = pd.DataFrame(index=[f"{graph.slice_id}_{row}" for row in range(n)])
    obs[_keys.SLICE] = pd.Categorical([graph.slice_id] * n)
    adata = AnnData(obs=obs, obsm={FEATURES: graph.x.copy(), _keys.SPATIAL: graph.pos.copy()})
    adata.uns[_keys.STGRAPH] = {
        _keys.UNIT: graph.unit,
        _keys.UM_PER_UNIT: 1.0 if graph.unit == "um" else float("nan"),
        _keys.UNIT_SOURCE: "file" if graph.unit == "um" else "none",
        "spacing": graph.spacing,
    }
    write_slots(adata, graph)
    return adata
