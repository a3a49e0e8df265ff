from dataclasses import replace

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from stgraph.data.box import SliceBox
from stgraph.data.convert import to_hetero_data
from stgraph.data.parts import PartDataset
from stgraph.errors import InputError
from stgraph.graph.build import build_graph
from stgraph.partition.metis import Metis


def test_every_part_knows_the_box_of_its_slice(tissue):
    graph = build_graph(tissue)
    other = replace(graph, slice_id="other", pos=graph.pos * 2)
    parts = PartDataset([graph, other], Metis(part_size=100), transform=SliceBox([graph, other]))
    for part, name in zip(parts, parts.slice_of, strict=True):
        pos = (graph if name == graph.slice_id else other).pos
        corners = np.concatenate([pos.min(0), pos.max(0)]) - np.tile(part.origin.numpy()[0], 2)
        np.testing.assert_allclose(part.box.numpy(), corners[None], rtol=1e-5, atol=1e-2)
        assert part.box.dtype == torch.float32
    assert Batch.from_data_list([parts[0], parts[len(parts) - 1]]).box.shape == (2, 4)


def test_the_data_it_is_given_stay_as_they_are(tissue):
    graph = build_graph(tissue)
    data = to_hetero_data(graph)
    SliceBox([graph])(data)
    assert "box" not in data.to_dict()


def test_a_slice_it_does_not_know(tissue):
    graph = build_graph(tissue)
    with pytest.raises(InputError, match="not given the slice 'synthetic_0': it knows \\['other'\\]"):
        SliceBox([replace(graph, slice_id="other")])(to_hetero_data(graph))
