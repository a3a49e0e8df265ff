from dataclasses import dataclass, field

import pytest
import torch
from torch.utils.data import DataLoader

from stgraph.data.parts import PartDataset
from stgraph.errors import InputError
from stgraph.graph.build import build_graph
from stgraph.partition.spatial import CoordinateBisection
from stgraph.training.batches import Batches, PartBatches, SampledBatches, num_cells


@pytest.fixture
def dataset(slices):
    return PartDataset([build_graph(adata) for adata in slices], CoordinateBisection(70))


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_parts_come_in_the_order_of_a_loader(batch_size):
    numbers = list(range(10))
    loader = DataLoader(numbers, batch_size, shuffle=True, generator=torch.Generator().manual_seed(5))
    epochs = [[batch.tolist() for batch in loader] for _ in range(3)]
    batches = PartBatches(numbers, batch_size, random_state=5)
    # An epoch is the same whenever, and after whichever other, it is asked for.
    assert [batches.epoch(number) for number in (1, 2, 3, 1, 3, 3)] == [epochs[i] for i in (0, 1, 2, 0, 2, 2)]
    assert epochs[0] != epochs[1]


def test_parts_are_joined_in_order(dataset):
    batches = PartBatches(dataset, batch_size=2)
    assert isinstance(batches, Batches)
    batch = batches.join(batches.units([3, 0]))
    assert torch.equal(batch["cell"].x, torch.cat([dataset[3]["cell"].x, dataset[0]["cell"].x]))
    owned = [int(dataset[index]["cell"].owned.sum()) for index in (3, 0)]
    assert num_cells(batch) == sum(owned) < batch["cell"].num_nodes


@dataclass
class Sampler:
    """Two batches in an order that depends on the epoch."""

    epochs: list = field(default_factory=list)

    def set_epoch(self, epoch):
        self.epochs.append(epoch)

    def __iter__(self):
        return iter([[0, 2], [1]] if self.epochs[-1] % 2 else [[1], [0, 2]])


def test_a_sampler_decides():
    batches = SampledBatches(torch.arange(3) * 10, sampler := Sampler())
    assert isinstance(batches, Batches)
    assert [batches.epoch(number) for number in (1, 2, 3)] == [[[1], [0, 2]], [[0, 2], [1]], [[1], [0, 2]]]
    assert sampler.epochs == [0, 1, 2]
    assert batches.join(batches.units([0, 2])).tolist() == [0, 20]
    single = SampledBatches([5, 6, 7], Sampler(), collate=torch.tensor)
    assert single.join(single.units([0, 2])).tolist() == [5, 7]


def test_nothing_to_train_on():
    with pytest.raises(InputError, match="no part to train on"):
        PartBatches([])

    class Empty(Sampler):
        def __iter__(self):
            return iter([])

    with pytest.raises(InputError, match="the sampler gives no batch"):
        SampledBatches([], Empty()).epoch(1)
