import dataclasses

import pytest

import stgraph


def test_its_length_is_its_number_of_cells(tissue):
    graph = stgraph.build_graph(tissue)
    assert len(graph) == tissue.n_obs
    assert len(graph.virtual) == len(graph.virtual.num_cells) == graph.virtual.membership.max() + 1


def test_it_cannot_be_changed(tissue):
    graph = stgraph.build_graph(tissue)
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph.unit = "inch"
