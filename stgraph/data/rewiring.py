"""Who is whose neighbour among cells that have been moved: the edges of a part, found anew from its positions."""

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import HeteroData

from stgraph.data.edge_types import NEAR
from stgraph.data.lengths import measured
from stgraph.errors import InputError, StgraphWarning
from stgraph.graph.builders import GraphBuilder

_FEW = 100
"""Cells up to which all are neighbours if they are too few for the builder."""


def rewire_(data: HeteroData, builder: GraphBuilder) -> None:
    """Replace the edges between cells by those that ``builder`` finds at the positions the cells have now, in place.

    Each graph of a batch is built on its own. The result depends on the positions alone, and on nothing that was
    there before: to whom a moved cell was a neighbour does not show. Lengths are measured as everywhere.

    A part knows its own cells only. Cells of its outermost ring of halo have lost neighbours, so `KNN` makes them reach
    farther inwards than in the slice, Delaunay spans the outline, and `RadiusByDegree` takes a slightly larger radius;
    `Radius` gives what it gives in the slice. With 18 nearest neighbours, parts of 1000 cells and one hop of halo,
    owned cells have the edges they have in the slice and 2 % more; with two hops, 0.05 to 0.14 % more (osmFISH and
    Visium slices; of the latter 3 in 10,000 edges are missing, for neighbours tie). A cell that was moved beyond the
    owned cells of the part would have longer edges than others, and is to be kept from there
    (`stgraph.data.moving.moves_within`).

    PyG's ``to_data_list`` knows nothing of edges that were replaced in a batch.

    Parameters
    ----------
    data
        One graph or a batch of several; tensors in it are replaced, not written to.
    builder
        Finds the edges. `HexGrid` and `SquareGrid` refuse cells off their lattice, or leave them without neighbours.

    Raises
    ------
    InputError
        If the builder needs microns and there are none, refuses a part, or edges have attributes beside their length,
        which new edges could not have.

    Warns
    -----
    StgraphWarning
        If a part has too few cells for the builder: then all of them are neighbours.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.data.convert import to_hetero_data
    >>> from stgraph.data.rewiring import rewire_
    >>> from stgraph.graph.builders import KNN
    >>> data = to_hetero_data(stgraph.build_graph(stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]))
    >>> rewire_(data, KNN(n_neighbors=2, symmetric=False))
    >>> data["cell", "near", "cell"].num_edges
    400
    """
    others = sorted(set(data[NEAR].keys()) - {"edge_index", "edge_attr"})
    if others:
        raise InputError(f"Edges between cells have {', '.join(others)}, which new edges would not have: remove it.")
    pos, device = data["cell"].pos.detach().cpu().double().numpy(), data["cell"].pos.device
    bounds = data["cell"].ptr.tolist() if "ptr" in data["cell"] else [0, len(pos)]
    names, units = _each(data.slice_id, len(bounds) - 1), _each(data.unit, len(bounds) - 1)
    edges = []
    for graph, (name, unit) in enumerate(zip(names, units, strict=True)):
        begin, end = bounds[graph], bounds[graph + 1]
        if builder.in_microns and unit != "um":
            raise InputError(
                f"{name}: {type(builder).__name__} counts in microns, but the unit of the coordinates is unknown: "
                "rebuild the graph with nearest neighbours (KNN), or read the slice with um_per_unit."
            )
        edges.append(_edges(pos[begin:end], builder, name) + begin)
    data[NEAR].edge_index = torch.cat(edges, dim=1).to(device) if edges else data[NEAR].edge_index[:, :0]
    data[NEAR].edge_attr = measured(data, NEAR)


def _edges(pos: NDArray[np.float64], builder: GraphBuilder, name: str) -> Tensor:
    """(2, E) source above target, by target and then by source."""
    n = len(pos)
    if n < 2:
        return torch.zeros(2, 0, dtype=torch.int64)
    try:
        near = builder(pos)
    except InputError as error:
        if n > _FEW:
            raise InputError(f"{name}: the graph cannot be rebuilt from moved cells: {error}") from error
        warnings.warn(
            f"A part of {n} cells is too small for {type(builder).__name__}: all its cells are made neighbours.",
            StgraphWarning,
            stacklevel=3,
        )
        return _all_pairs(n)
    target = np.repeat(np.arange(n), np.diff(near.indptr))
    return torch.from_numpy(np.stack([near.indices.astype(np.int64), target]))


def _all_pairs(n: int) -> Tensor:
    target, source = (~torch.eye(n, dtype=torch.bool)).nonzero().unbind(1)
    return torch.stack([source, target])


def _each(value: str | list[str], count: int) -> list[str]:
    return [value] * count if isinstance(value, str) else list(value)
