import pytest
import torch
from torch import nn
from torch_geometric.nn import MLP, EdgeConv, GATv2Conv, GCNConv, GINEConv, GPSConv, ResGatedGraphConv

from stgraph._config import instantiate
from stgraph.errors import InputError
from stgraph.nn.module_config import module_config, new_like

READABLE = [
    nn.Linear(3, 4, bias=False),
    nn.LayerNorm(3, elementwise_affine=False),
    GATv2Conv(4, 4, heads=2, concat=False, dropout=0.3, edge_dim=5, bias=False),
    GATv2Conv(-1, 4),
    GCNConv(4, 4, normalize=False, bias=False),
    GINEConv(nn.Linear(4, 4), eps=0.5),
    EdgeConv(MLP([8, 4, 4]), aggr="mean"),
    ResGatedGraphConv(4, 4, act=nn.Tanh()),
    GPSConv(4, GINEConv(nn.Linear(4, 4)), heads=2, dropout=0.1),
]


@pytest.mark.parametrize("module", READABLE, ids=lambda module: type(module).__name__)
def test_a_module_and_what_its_config_builds_are_alike(module):
    for again in (instantiate(module_config(module)), new_like(module)):
        assert type(again) is type(module)
        assert repr(again) == repr(module)
        assert module_config(again) == module_config(module)
        if not any(isinstance(p, nn.UninitializedParameter) for p in module.parameters()):
            again.load_state_dict(module.state_dict())


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.ReLU()), "would be"),
        (GINEConv(nn.Linear(4, 4), edge_dim=8), "'lin' would be of NoneType, not of Linear"),
        (GINEConv(nn.Linear(4, 4), train_eps=True), "the weight 'eps' would be another"),
        (GPSConv(4, None, norm=None), "norm"),
        (MLP([4, 4, 4], act="tanh", norm=None), "'norms.0' would be of BatchNorm, not of Identity"),
        (GCNConv(4, 4, aggr="max"), "'aggr' would be 'add', not 'max'"),
    ],
)
def test_what_cannot_be_read_off_is_refused(module, reason):
    with pytest.raises(InputError, match=f"cannot be read off it .*{reason}.*give a config instead"):
        module_config(module)


def test_looking_draws_no_random_numbers():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    module = nn.Linear(2, 2)
    torch.set_rng_state(before)
    module_config(module)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_object_and_its_config_draw_the_same_weights():
    pattern = EdgeConv(MLP([8, 4, 4]))
    torch.manual_seed(0)
    first = new_like(pattern)
    torch.manual_seed(0)
    second = instantiate(module_config(pattern))
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
