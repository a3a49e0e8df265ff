import pytest
import torch

from stgraph.errors import InputError
from stgraph.nn.module_config import module_config, new_like
from stgraph.nn.value_embedding import BinnedValues, ContinuousValues


def test_bins_hold_as_many_values_each():
    values = torch.rand(1000, generator=torch.Generator().manual_seed(0)).exp() * 50
    binned = BinnedValues(4, num_bins=8).fit(torch.cat([values, torch.zeros(500)]))
    counts = binned.bins(values).bincount(minlength=8)
    assert counts.tolist() == pytest.approx([125] * 8, abs=2)
    order = values.argsort()
    assert (binned.bins(values[order]).diff() >= 0).all()


def test_values_beyond_those_of_training_are_in_the_outer_bins():
    binned = BinnedValues(4, num_bins=4).fit(torch.arange(1.0, 101.0))
    assert binned.bins(torch.tensor([0.0, -1.0, 1e9])).tolist() == [0, 0, 3]


def test_few_different_values():
    """Counts of small panels: bins may be empty, but equal values are in one bin and different ones can be told."""
    binned = BinnedValues(4, num_bins=16).fit(torch.tensor([1.0, 2.0, 3.0]).repeat(100))
    assert len(set(binned.bins(torch.tensor([1.0, 2.0, 3.0])).tolist())) == 3


def test_a_value_is_seen_through_its_bin_only():
    binned = BinnedValues(4, num_bins=4).fit(torch.arange(1.0, 101.0))
    same = binned(torch.tensor([30.0, 40.0, 90.0]))
    assert torch.equal(same[0], same[1])
    assert not torch.equal(same[0], same[2])


def test_bins_are_saved_with_the_weights():
    binned = BinnedValues(4, num_bins=4).fit(torch.arange(1.0, 101.0))
    again = BinnedValues(4, num_bins=4)
    again.load_state_dict(binned.state_dict())
    values = torch.rand(20) * 100
    assert torch.equal(again(values), binned(values))


def test_continuous_values_tell_near_values_apart():
    torch.manual_seed(0)
    network = ContinuousValues(8)
    first, second = network(torch.tensor([10.0, 10.5]))
    assert not torch.equal(first, second)
    assert torch.isfinite(network(torch.tensor([0.0, 1e4]))).all()


@pytest.mark.parametrize("module", [ContinuousValues(4, 8), BinnedValues(4, 5)])
def test_config(module):
    assert module_config(new_like(module)) == module_config(module)


def test_nothing_to_learn_bins_from():
    for module in (BinnedValues(4), ContinuousValues(4)):
        with pytest.raises(InputError, match=f"{type(module).__name__} needs positive values"):
            module.fit(torch.zeros(5))


def test_one_bin():
    with pytest.raises(InputError, match="num_bins of at least 2"):
        BinnedValues(4, num_bins=1)
