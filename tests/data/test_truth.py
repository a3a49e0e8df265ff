import numpy as np
import pytest
import torch

from stgraph.data.parts import PartDataset
from stgraph.data.truth import CellTruth
from stgraph.errors import InputError
from stgraph.graph.build import build_graph
from stgraph.partition.spatial import CoordinateBisection


@pytest.mark.parametrize(
    ("truth", "dtype"),
    [(np.arange(320, dtype=np.int32), torch.int64), (np.random.default_rng(0).normal(size=(320, 2)), torch.float32)],
)
def test_each_cell_of_a_part_has_its_own_truth(tissue, truth, dtype):
    dataset = PartDataset([build_graph(tissue)], CoordinateBisection(100), transform=CellTruth({"synthetic_0": truth}))
    for part in dataset:
        given = part["cell"].truth
        assert given.dtype == dtype
        np.testing.assert_array_equal(given.numpy(), truth[part["cell"].index.numpy()].astype(given.numpy().dtype))


def test_a_slice_without_truth(tissue):
    dataset = PartDataset([build_graph(tissue)], CoordinateBisection(100), transform=CellTruth({"b": np.arange(3)}))
    with pytest.raises(InputError, match=r"not given the slice 'synthetic_0': it knows \['b'\]"):
        dataset[0]
