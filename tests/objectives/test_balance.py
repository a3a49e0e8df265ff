import pytest
import torch

from stgraph._config import instantiate, to_config
from stgraph.data.convert import to_hetero_data
from stgraph.errors import InputError
from stgraph.graph.build import build_graph
from stgraph.models.se2_transformer import SE2Transformer
from stgraph.objectives.balance import FixedBalance, LearnedBalance
from stgraph.objectives.base import WeightedSum
from stgraph.objectives.distance_recovery import DistanceRecovery
from stgraph.objectives.masked_cell import MaskedCell

WEIGHTS = {"small": 1.0, "large": 3.0}


def learned(log_variances=(0.0, 0.0)):
    balance = LearnedBalance()
    balance.set_names(list(WEIGHTS))
    with torch.no_grad():
        for parameter, value in zip(balance.parameters(), log_variances, strict=True):
            parameter.fill_(value)
    return balance


def test_at_the_start_it_is_the_fixed_sum():
    losses = {"small": torch.tensor(0.01), "large": torch.tensor(500.0)}
    assert learned()(losses, WEIGHTS) == FixedBalance()(losses, WEIGHTS) == pytest.approx(1500.01)


def test_formula():
    losses = {"small": torch.tensor(0.5), "large": torch.tensor(2.0)}
    total = learned((1.0, -0.5))(losses, WEIGHTS)
    expected = (torch.exp(torch.tensor(-1.0)) * 0.5 + 1.0) + 3 * (torch.exp(torch.tensor(0.5)) * 2.0 - 0.5)
    torch.testing.assert_close(total.detach(), expected)


def test_losses_of_any_scale_come_to_count_alike():
    """Two planted regressions whose errors differ a million times: each weight becomes one over the variance."""
    generator = torch.Generator().manual_seed(0)
    errors = {"small": 1e-3 * torch.randn(2000, generator=generator), "large": torch.randn(2000, generator=generator)}
    losses = {name: error.square().mean() for name, error in errors.items()}
    balance = learned()
    optimizer = torch.optim.Adam(balance.parameters(), lr=0.3)
    for _ in range(400):
        optimizer.zero_grad()
        balance(losses, WEIGHTS).backward()
        optimizer.step()
    for name, loss in losses.items():
        assert float(balance.log_variance[name].detach().exp()) == pytest.approx(float(loss), rel=0.02)


def test_shares_of_a_step_add_up():
    losses = {"small": torch.tensor(0.5), "large": torch.tensor(2.0)}
    balance = learned((1.0, -0.5))
    whole = balance(losses, WEIGHTS)
    parts = [balance({name: share * loss for name, loss in losses.items()}, WEIGHTS, share) for share in (0.3, 0.7)]
    torch.testing.assert_close(parts[0] + parts[1], whole)
    gradients = torch.autograd.grad(whole, list(balance.parameters()))
    for one, other in zip(gradients, torch.autograd.grad(sum(parts), list(balance.parameters())), strict=True):
        torch.testing.assert_close(one, other)


def test_it_is_trained_along_and_saved(tissue):
    data = to_hetero_data(build_graph(tissue))
    torch.manual_seed(0)
    model = SE2Transformer(data["cell"].x.shape[1], hidden_channels=16)
    objective = WeightedSum([MaskedCell(), DistanceRecovery(), LearnedBalance()])
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], lr=1e-2)
    for step in range(3):
        objective(model, data, torch.Generator().manual_seed(step))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    state = objective.state_dict()
    assert set(state) == {"balance.log_variance.masked_cell", "balance.log_variance.distance_recovery"}
    assert all(value != 0 for value in state.values())
    again = WeightedSum([MaskedCell(), DistanceRecovery(), LearnedBalance()])
    again.load_state_dict(state)
    losses = [each(model, data, torch.Generator().manual_seed(9))["loss"].detach() for each in (objective, again)]
    assert losses[0] == losses[1]


def test_fixed_weights_have_nothing_to_train():
    assert not list(WeightedSum([MaskedCell()]).parameters())
    assert not WeightedSum([MaskedCell()]).state_dict()


def test_the_balance_given_is_a_pattern():
    balance = LearnedBalance()
    first, second = (WeightedSum([MaskedCell(), balance]) for _ in range(2))
    with torch.no_grad():
        next(first.parameters()).fill_(3.0)
    assert not list(balance.parameters())
    assert [float(p.detach()) for p in second.parameters()] == [0.0]
    assert instantiate(to_config(balance)).name == "balance"


@pytest.mark.parametrize("objective", [WeightedSum([MaskedCell(), LearnedBalance()]), WeightedSum([MaskedCell()])])
def test_a_sum_is_what_its_config_says(objective):
    again = instantiate(to_config(objective))
    assert again.objectives == objective.objectives
    assert type(again.balance) is type(objective.balance)
    assert set(again.state_dict()) == set(objective.state_dict())


def test_one_balance():
    with pytest.raises(InputError, match="one balance"):
        WeightedSum([MaskedCell(), LearnedBalance(), FixedBalance()])
    with pytest.raises(InputError, match="one balance"):
        WeightedSum([MaskedCell(), LearnedBalance()], FixedBalance())
    with pytest.raises(InputError, match="at least one objective"):
        WeightedSum([LearnedBalance()])
