"""The tokens of the cells of a slice, for its parts."""

from collections.abc import Mapping

import numpy as np
import torch
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from stgraph.errors import InputError
from stgraph.preprocess.ragged_tokens import RaggedTokens


class CellTokens(BaseTransform):  # type: ignore[misc]
    """Tell a part the tokens of its cells, so that a network of cells can be trained within a network of graphs.

    To be used as ``transform`` of `stgraph.data.parts.PartDataset`, or called. Batches of PyG put tokens end to end,
    as they stand in a part.

    Parameters
    ----------
    tokens
        By slice: its N cells, all slices with values or all without. They may be memory-mapped.

    Shapes
    ------
    cell.tokens : (T,) int64, tokens of the cells of the part, one cell after another
    cell.num_tokens : (N,) int64, how many each cell has
    cell.token_values : (T,) float32, the value of each token; only if there are values

    Examples
    --------
    >>> import numpy as np, stgraph
    >>> from stgraph.data.cell_tokens import CellTokens
    >>> from stgraph.data.parts import part_data
    >>> from stgraph.partition.halo import part_with_halo
    >>> from stgraph.preprocess.ragged_tokens import RaggedTokens
    >>> graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=100, n_genes=60)[0])
    >>> part = part_data(graph, part_with_halo(graph, np.array([0, 2]), num_hops=0))
    >>> tokens = RaggedTokens(np.arange(200, dtype=np.int32), np.arange(101) * 2)
    >>> CellTokens({"synthetic_0": tokens})(part)["cell"].tokens
    tensor([0, 1, 4, 5])
    """

    def __init__(self, tokens: Mapping[str, RaggedTokens]) -> None:
        self.tokens = dict(tokens)
        if len({ragged.values is None for ragged in self.tokens.values()}) > 1:
            raise InputError("CellTokens needs values for all slices or for none: batches could not be made.")

    def forward(self, data: HeteroData) -> HeteroData:
        """Add the tokens.

        Raises
        ------
        InputError
            If it is a part of a slice that was not given, or that has other cells.
        """
        if data.slice_id not in self.tokens:
            raise InputError(f"CellTokens was not given the slice {data.slice_id!r}: it knows {sorted(self.tokens)}.")
        ragged, rows = self.tokens[data.slice_id], data["cell"].index.numpy()
        if len(rows) and rows.max() >= len(ragged):
            raise InputError(
                f"CellTokens has {len(ragged)} cells of the slice {data.slice_id!r}, but a part of it has its cell "
                f"{rows.max()} (from 0): tokenise the slice the graph was built of."
            )
        taken = ragged.take(rows)
        cell = data["cell"]
        cell.tokens = torch.from_numpy(taken.tokens.astype(np.int64))
        cell.num_tokens = torch.from_numpy(taken.lengths.astype(np.int64))
        if taken.values is not None:
            cell.token_values = torch.from_numpy(taken.values)
        return data
