import numpy as np
import pytest
import torch
from torch import nn

from stgraph.errors import CheckpointError, InputError
from stgraph.preprocess.orthologs import Orthologs
from stgraph.tasks.network_state import network_state, read_network_state


class Net(nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.width = width
        self.linear = nn.Linear(width, 2)


def build(config):
    return Net(config["width"])


NAMES = {"genes": np.arange(4)}


def test_comes_back_whole():
    net, orthologs = Net(5), Orthologs({"a": "A", "b": "A"})
    found, ids, names = read_network_state(net, network_state(net, orthologs, NAMES, "list."), "list.", build)
    assert found.width == 5
    assert torch.equal(found.linear.weight, net.linear.weight)
    assert ids is not None
    assert dict(ids.ids) == {"a": "A", "b": "A"}
    assert np.array_equal(names["genes"], NAMES["genes"])
    assert read_network_state(net, network_state(net, None, NAMES, "list."), "list.", build)[1] is None


def test_is_a_copy():
    net = Net()
    state = network_state(net, None, NAMES, "list.")
    before = state["network.linear.weight"].copy()
    with torch.no_grad():
        net.linear.weight.zero_()
    assert np.array_equal(state["network.linear.weight"], before)


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda s: s.pop("config"), InputError, "config"),
        (lambda s: s.update(more=np.zeros(1)), InputError, "more"),
        (lambda s: s.update(config=np.frombuffer(b"{", dtype=np.uint8)), InputError, "how its network is built"),
        (lambda s: s.pop("network.linear.bias"), CheckpointError, "linear.bias"),
        (lambda s: s.update({"network.linear.bias": np.zeros(9, np.float32)}), CheckpointError, "shape"),
    ],
)
def test_what_is_spoilt_is_refused(spoil, error, message):
    state = network_state(Net(), None, NAMES, "list.")
    spoil(state)
    with pytest.raises(error, match=message):
        read_network_state(Net(), state, "list.", build)
