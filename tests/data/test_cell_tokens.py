import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from stgraph.data.cell_tokens import CellTokens
from stgraph.data.parts import PartDataset
from stgraph.errors import InputError
from stgraph.graph.build import build_graph
from stgraph.partition.spatial import CoordinateBisection
from stgraph.preprocess.ragged_tokens import RaggedTokens


def ragged(n, values):
    lengths = np.random.default_rng(0).integers(1, 6, size=n)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    tokens = np.repeat(np.arange(n), lengths).astype(np.int32)  # a cell's tokens tell its number
    return RaggedTokens(tokens, indptr, tokens.astype(np.float32) + 0.5 if values else None)


@pytest.mark.parametrize("values", [False, True])
def test_a_batch_of_parts_has_the_tokens_of_its_cells_in_order(tissue, values):
    tokens = ragged(tissue.n_obs, values)
    transform = CellTokens({"synthetic_0": tokens})
    dataset = PartDataset([build_graph(tissue)], CoordinateBisection(100), transform=transform)
    batch = Batch.from_data_list([dataset[1], dataset[0]])
    cell = batch["cell"]
    assert cell.num_nodes == len(cell.index) == len(cell.num_tokens)
    assert cell.tokens.dtype == torch.int64
    index, num_tokens = cell.index.numpy(), cell.num_tokens.numpy()
    np.testing.assert_array_equal(num_tokens, tokens.lengths[index])
    np.testing.assert_array_equal(cell.tokens, np.repeat(index, num_tokens))
    if values:
        np.testing.assert_array_equal(cell.token_values, cell.tokens + 0.5)
    assert ("token_values" in cell) == values


def test_a_slice_without_tokens(tissue):
    graph = build_graph(tissue)
    with pytest.raises(InputError, match=r"not given the slice 'synthetic_0': it knows \['b'\]"):
        PartDataset([graph], CoordinateBisection(100), transform=CellTokens({"b": ragged(5, False)}))[0]


def test_tokens_of_fewer_cells(tissue):
    dataset = PartDataset(
        [build_graph(tissue)], CoordinateBisection(1000), transform=CellTokens({"synthetic_0": ragged(5, False)})
    )
    with pytest.raises(InputError, match=r"has 5 cells of the slice 'synthetic_0', but a part of it has its cell 319"):
        dataset[0]


def test_values_for_some_slices_only():
    with pytest.raises(InputError, match="values for all slices or for none"):
        CellTokens({"a": ragged(5, False), "b": ragged(5, True)})
