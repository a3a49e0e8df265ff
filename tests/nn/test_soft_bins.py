import pytest
import torch

from stgraph.errors import InputError
from stgraph.nn.soft_bins import SoftBins


@pytest.fixture
def bins():
    torch.manual_seed(0)
    return SoftBins(6, num_bins=4)


def test_is_what_the_paper_says(bins):
    values = torch.tensor([0.0, 0.7, 5.0])
    first, second = bins.linear1, bins.linear2
    for value, found in zip(values, bins(values), strict=True):
        h = first.weight[:, 0] * value + first.bias
        h = torch.where(h > 0, h, 0.1 * h)
        share = (bins.alpha * h + second.weight @ h + second.bias).exp()
        torch.testing.assert_close(found, (share / share.sum()) @ bins.lookup_table.weight)


def test_alpha_is_the_weight_of_the_first_layer():
    torch.manual_seed(0)
    one = SoftBins(6, 4)
    other = SoftBins(6, 4, alpha=2.0)
    other.load_state_dict(one.state_dict())
    with torch.no_grad():
        one.linear2.weight += torch.eye(4)
    torch.testing.assert_close(one(torch.tensor([2.0])), other(torch.tensor([2.0])))


def test_only_padding_is_not_trained(bins):
    (bins(torch.rand(3)).square().sum() + bins.mask_vector.sum()).backward()
    assert [name for name, weight in bins.named_parameters() if weight.grad is None] == ["pad_embedding.weight"]
    assert bins.pad_vector.shape == (6,)


def test_no_values(bins):
    assert bins(torch.zeros(0)).shape == (0, 6)


def test_senseless_sizes():
    with pytest.raises(InputError, match="SoftBins needs num_bins of at least 1, not 0"):
        SoftBins(6, 0)
