import numpy as np

from stgraph.data.epoch_batches import EpochBatches


class Counted(EpochBatches):
    """Three batches; notes how often they are made."""

    def __init__(self):
        super().__init__()
        self.made = []

    def _make(self, epoch):
        self.made.append(epoch)
        return [np.array([epoch, i]) for i in range(3)]


def test_goes_on_at_a_batch_once_and_then_over_the_whole_epoch():
    batches = Counted()
    batches.set_epoch(2, 1)
    assert list(batches) == [[2, 1], [2, 2]]
    assert list(batches) == [[2, 0], [2, 1], [2, 2]]
    assert len(batches) == 3


def test_an_epoch_is_made_once_until_another_is_asked_for():
    batches = Counted()
    for epoch in (0, 0, 1, 0):
        batches.batches(epoch)
    assert batches.made == [0, 1, 0]
