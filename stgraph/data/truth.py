"""What is known about the cells of a slice, for its parts."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from stgraph.errors import InputError


def known(truth: NDArray[Any]) -> NDArray[np.bool_]:
    """(N,) bool, the cells of a slice of which something is known.

    Parameters
    ----------
    truth
        (N,) whole numbers, -1 where nothing is known; or (N, D) values, NaN where nothing is.

    Examples
    --------
    >>> import numpy as np
    >>> from stgraph.data.truth import known
    >>> known(np.array([2, -1])).tolist(), known(np.array([[0.0, np.nan]])).tolist()
    ([True, False], [False])
    """
    return np.asarray(truth >= 0 if truth.ndim == 1 else ~np.isnan(truth).any(axis=1))


class CellTruth(BaseTransform):  # type: ignore[misc]
    """Tell a part what its cells are, in ``cell.truth``.

    To be used as ``transform`` of `stgraph.data.parts.PartDataset`, or called.

    Parameters
    ----------
    truth
        By slice: (N,) whole numbers, -1 where nothing is known; or (N, D) values, NaN
        where nothing is. What must not be learnt from has to be hidden before: whatever is
        here, of owned cells, is learnt from.

    Shapes
    ------
    cell.truth : (n,) int64 or (n, D) float32

    Examples
    --------
    >>> import numpy as np, stgraph
    >>> from stgraph.data.parts import part_data
    >>> from stgraph.data.truth import CellTruth
    >>> from stgraph.partition.halo import part_with_halo
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0])
    >>> part = part_data(graph, part_with_halo(graph, np.arange(3), num_hops=0))
    >>> CellTruth({"synthetic_0": np.arange(200)})(part)["cell"].truth
    tensor([0, 1, 2])
    """

    def __init__(self, truth: Mapping[str, NDArray[Any]]) -> None:
        self.truth = {
            name: values.astype(np.int64 if np.issubdtype(values.dtype, np.integer) else np.float32)
            for name, values in truth.items()
        }

    def forward(self, data: HeteroData) -> HeteroData:
        """Add the truth.

        Raises
        ------
        InputError
            If it is a part of a slice that was not given.
        """
        if data.slice_id not in self.truth:
            raise InputError(f"CellTruth was not given the slice {data.slice_id!r}: it knows {sorted(self.truth)}.")
        data["cell"].truth = torch.from_numpy(self.truth[data.slice_id][data["cell"].index.numpy()])
        return data
