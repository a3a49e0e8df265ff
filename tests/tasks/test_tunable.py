"""What networks are asked for when they are fine-tuned, of graphs and of neighbourhoods."""

import numpy as np
import pytest
import torch

import stgraph
from stgraph._config import to_config
from stgraph.graph.neighbor_choice import NearestCells
from stgraph.partition.spatial import CoordinateBisection
from stgraph.tasks.center_batches import NearbyCenters, RandomCenters
from stgraph.tasks.learned import LearnedEncoder
from stgraph.tasks.neighborhood_encoder import NeighborhoodEncoder
from stgraph.tasks.tunable import known_rows, known_truth
from stgraph.tasks.tunable_graphs import TunableGraphs
from stgraph.tasks.tunable_neighborhoods import TunableNeighborhoods
from stgraph.training.untrained import Untrained

GRAPHS = {
    "trainer": {"_target_": "stgraph.training.untrained.Untrained"},
    "virtual_cells": None,
    "encoder": {"_target_": "stgraph.preprocess.encoder.LogPCA", "n_components": 4},
    "model": {"_target_": "stgraph.models.se2_transformer.SE2Transformer", "hidden_channels": 8},
}
MODEL = {
    "_target_": "stgraph.models.aido_tissue.AIDOTissue",
    "hidden_channels": 8,
    "num_layers": 1,
    "ffn_channels": 8,
    "num_bins": 8,
    "decoder_layers": 0,
}
TRUTH = {"b": np.where(np.arange(60) % 3 == 0, np.arange(60) % 2, -1), "a": np.where(np.arange(90) < 20, 1, -1)}


@pytest.fixture(scope="module")
def slices():
    first, second = (stgraph.synthetic_tissue(n_cells=n, n_genes=60, random_state=n)[0] for n in (90, 60))
    return {"a": first, "b": second, "of no use": second}


def graphs(slices):
    start = LearnedEncoder(GRAPHS).fit([slices["a"]]).pretrained
    return TunableGraphs(start, slices, ["a", "b"], CoordinateBisection(40))


def cells(slices, batching=None, max_cells=8):
    encoder = NeighborhoodEncoder(
        MODEL,
        neighbors=NearestCells(3),
        trainer=Untrained(),
        batching=batching or RandomCenters(),
        max_cells=max_cells,
    )
    return TunableNeighborhoods(encoder.fit([slices["a"]]), slices, ["a", "b"], 0)


def test_known_rows_and_truth_are_in_the_order_of_the_truth():
    said = {"a": np.arange(180.0).reshape(90, 2), "b": -np.arange(120.0).reshape(60, 2)}
    rows = known_rows(said, TRUTH)
    np.testing.assert_array_equal(rows, np.concatenate([said["b"][::3], said["a"][:20]]))
    np.testing.assert_array_equal(known_truth(TRUTH), np.concatenate([np.arange(0, 60, 3) % 2, np.ones(20)]))
    values = {"a": np.array([[1.0, 2.0], [np.nan, np.nan]])}
    assert known_truth(values).tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("make", [graphs, cells])
def test_it_can_begin_before_anything_was_read(slices, make):
    """And what the trained network says is what a linear head on what is read says, as long as nothing is trained."""
    tunable = make(slices)
    tuned = tunable.begin(3, (), 0.0)
    read = tunable.read(TRUTH)
    assert read.shape[0] == 40
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(3, read.shape[1])).astype(np.float32), np.arange(3, dtype=np.float32)
    tuned.model.start_from(torch.from_numpy(weight), torch.from_numpy(bias))
    said = tunable.said(tuned, TRUTH)
    np.testing.assert_allclose(said, read @ weight.T + bias, atol=1e-4)
    whole = {name: tunable.predict(tuned, slices[name]) for name in TRUTH}
    assert whole["a"].shape == (90, 3)
    np.testing.assert_allclose(known_rows(whole, TRUTH), said, atol=1e-4)


@pytest.mark.parametrize("make", [graphs, cells])
def test_the_network_that_was_given_stays(slices, make):
    tunable = make(slices)
    before = tunable.read(TRUTH)
    tuned = tunable.begin(2, (), 0.0)
    with torch.no_grad():
        for weight in tuned.model.parameters():
            weight.add_(1.0)
    np.testing.assert_array_equal(tunable.read(TRUTH), before)


def test_parts_without_a_known_cell_are_left_out(slices):
    x = slices["a"].obsm["spatial"][:, 0]
    data = graphs(slices).data({**TRUTH, "a": np.where(x < np.sort(x)[10], 1, -1)})
    told = [part["cell"].truth[part["cell"].owned] for part in data]
    assert all(bool((truth >= 0).any()) for truth in told)
    assert sum(int((truth >= 0).sum()) for truth in told) == 30
    assert len(data) < len(data.dataset)


def test_every_known_cell_is_learnt_from_once_an_epoch(slices):
    data = cells(slices).data(TRUTH)
    truth = [int(y) for rows in data.epoch(1) for y in data.join(data.units(rows)).truth]
    assert sorted(truth) == sorted(known_truth(TRUTH).tolist())


def mean_width(tunable):
    """How far centres of a batch are from each other."""
    data = tunable.data({"a": np.zeros(90, dtype=np.int64)})
    pos = tunable.slices["a"].obsm["spatial"]
    return np.mean([pos[np.asarray(rows)].std(axis=0).mean() for rows in data.epoch(1)])


def test_batches_are_put_together_as_the_encoder_says(slices):
    near, random = mean_width(cells(slices, NearbyCenters(1))), mean_width(cells(slices))
    assert near < 0.6 * random
    lengths = {}
    for pool in (1, 12):
        tunable = cells(slices, RandomCenters(pool))
        data = tunable.data({"a": np.zeros(90, dtype=np.int64)})
        own = tunable.encoder.sequences([slices["a"]]).lengths
        lengths[pool] = np.mean([own[np.asarray(rows)].std() for rows in data.epoch(1)])
    assert lengths[12] < 0.5 * lengths[1]


def test_a_tuned_network_reads_by_the_config_of_its_encoder(slices):
    tunable = cells(slices)
    assert to_config(tunable.begin(2, (), 0.0).encoder) == to_config(tunable.encoder)
