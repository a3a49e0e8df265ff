import itertools

import numpy as np
import pytest
import torch

from stgraph._config import instantiate, to_config
from stgraph.data.depth_values import BatchDepth, CellDepth
from stgraph.errors import InputError

COUNTS = torch.tensor([3.0, 1.0, 0.0, 300.0, 7.0, 2.0])
OFFSETS = torch.tensor([0, 2, 3, 5, 6])  # the second cell has a place for a depth token alone


def test_a_cell_is_normalised_by_itself():
    values, depth = CellDepth(floor=0.0)(COUNTS, OFFSETS, torch.zeros(4, dtype=torch.int64))
    expected = [np.log1p(c / total * 10_000) for c, total in ((3, 4), (1, 4), (300, 307), (7, 307), (2, 2))]
    np.testing.assert_allclose(values[[0, 1, 3, 4, 5]], expected, rtol=1e-6)
    np.testing.assert_allclose(depth, [np.log10(4), 0, np.log10(307), np.log10(2)], rtol=1e-6)
    assert values.dtype == depth.dtype == torch.float32


def test_the_value_of_a_cell_does_not_depend_on_the_batch_unless_it_is_the_release():
    alone, slot = COUNTS[:2], torch.zeros(4, dtype=torch.int64)
    for depth, same in ((CellDepth(), True), (BatchDepth(), False)):
        within = depth(COUNTS, OFFSETS, slot)[0][:2]
        assert torch.equal(within, depth(alone, OFFSETS[:2], slot[:1])[0]) is same
        assert depth.of_cell is same


def test_values_are_clipped_and_depths_have_a_floor():
    million = torch.tensor([1e6])
    for depth in (CellDepth, BatchDepth):
        one = depth(clip=4.0, floor=2.0)(million, torch.tensor([0, 1]), torch.zeros(1, dtype=torch.int64))
        assert [float(value) for value in one] == [4.0, 4.0]
        few = depth(floor=5.0)(torch.tensor([9.0]), torch.tensor([0, 1]), torch.zeros(1, dtype=torch.int64))
        assert float(few[1]) == 5.0


def test_the_release_sums_over_the_slot_in_bfloat16():
    slot = torch.tensor([0, 1, 1, 0])
    values, depth = BatchDepth(floor=0.0)(COUNTS, OFFSETS, slot)
    dense = torch.zeros(4, 5)  # a row for each cell, as the release has them
    for cell, (begin, end) in enumerate(itertools.pairwise(OFFSETS)):
        dense[cell, : end - begin] = COUNTS[begin:end]
    for of_slot in (0, 1):
        counts = dense[slot == of_slot].bfloat16()
        total = counts.sum()
        expected = torch.log1p(counts / total * 10_000).float()
        for cell, row in zip(torch.nonzero(slot == of_slot).flatten(), expected, strict=True):
            own = slice(OFFSETS[cell], OFFSETS[cell + 1])
            assert torch.equal(values[own], row[: own.stop - own.start])
            assert depth[cell] == torch.log10(total).float()


@pytest.mark.parametrize("depth", [CellDepth, BatchDepth])
def test_arguments(depth):
    made = depth(target=5.0, depth_tokens=False, floor=0.0)
    assert instantiate(to_config(made)) == made
    for name, value, message in (
        ("target", 0.0, "needs a positive target"),
        ("clip", np.nan, "needs a positive clip"),
        ("floor", -1.0, "needs a floor of 0 or more, not -1.0"),
        ("floor", np.inf, "needs a floor of 0 or more"),
    ):
        with pytest.raises(InputError, match=f"{depth.__name__} {message}"):
            depth(**{name: value})
