"""Several small batches do what a large one does."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

import stgraph
from stgraph.data.parts import PartDataset
from stgraph.errors import InputError
from stgraph.graph.build import build_graph
from stgraph.models.se2_transformer import SE2Transformer
from stgraph.objectives.balance import LearnedBalance
from stgraph.objectives.base import WeightedSum
from stgraph.objectives.distance_recovery import DistanceRecovery
from stgraph.objectives.masked_cell import MaskedCell
from stgraph.partition.spatial import CoordinateBisection
from stgraph.training.layout import Layout
from stgraph.training.loop import Trainer
from stgraph.training.run_state import RESUME_POINT
from stgraph.training.steps import Steps

# Neither clipped nor decayed, and large steps, so that a gradient that is a little off shows.
SETTINGS = {"max_steps": 8, "lr": 0.01, "warmup_steps": 0, "weight_decay": 0.0, "grad_clip": 1e6}


@pytest.fixture(scope="module")
def dataset():
    """Five parts of two sizes, so that the mean of means is another mean."""
    large, small = (stgraph.synthetic_tissue(n_cells=n, n_genes=60, random_state=n)[0] for n in (320, 50))
    return PartDataset([build_graph(large), replace(build_graph(small), slice_id="small")], CoordinateBisection(80))


def train(dataset, objective=None, **settings):
    torch.manual_seed(0)
    model = SE2Transformer(20, hidden_channels=16)
    objective = objective or WeightedSum([MaskedCell(), DistanceRecovery(weight=1.0)])
    return model, Trainer(**SETTINGS | settings).fit(model, dataset, objective)


def assert_alike(one, other):
    (model, history), (other_model, other_history) = one, other
    assert len(history) == len(other_history)
    for record, expected in zip(history, other_history, strict=True):
        assert {k: v for k, v in record.items() if k != "cells_per_second"} == pytest.approx(
            {k: v for k, v in expected.items() if k != "cells_per_second"}, rel=2e-4
        )
    for (name, weight), expected in zip(model.state_dict().items(), other_model.state_dict().values(), strict=True):
        assert torch.allclose(weight, expected, atol=3e-4), name


def test_parts_differ_in_size(dataset):
    sizes = [int(part["cell"].owned.sum()) for part in dataset]
    assert len(sizes) == 5
    assert max(sizes) > 1.5 * min(sizes)


@pytest.mark.parametrize(("accumulate", "batch_size", "large"), [(2, 1, 2), (4, 1, 4), (2, 2, 4), (5, 1, 5)])
def test_accumulated_batches(dataset, accumulate, batch_size, large):
    small = train(dataset, accumulate=accumulate, batch_size=batch_size)
    assert_alike(small, train(dataset, batch_size=large, noise="parts"))


@pytest.mark.parametrize("grad_clip", [1e6, 0.05])
def test_the_gradient_of_the_first_step(dataset, tmp_path, grad_clip):
    """Adam divides by the size of a gradient, so it would hide a wrong factor; its first moments do not.

    What is clipped is the gradient of the step, not that of each batch in it, and not that of weights of losses.
    """
    moments = []
    for name, settings in {"small": {"accumulate": 4}, "large": {"batch_size": 4, "noise": "parts"}}.items():
        torch.manual_seed(0)
        objective = WeightedSum([MaskedCell(), DistanceRecovery(), LearnedBalance()])
        trainer = Trainer(**SETTINGS | {"max_steps": 1, "grad_clip": grad_clip} | settings)
        trainer.fit(SE2Transformer(20, hidden_channels=16), dataset, objective, resume=tmp_path / name)
        state = load_file(tmp_path / name / RESUME_POINT)
        moments.append({key: value for key, value in state.items() if key.endswith("/exp_avg")})
    small, large = moments
    assert len(small) == len(large) > 20
    assert max(float(moment.abs().max()) for moment in large.values()) > 1e-3
    for name, moment in large.items():
        assert torch.allclose(small[name], moment, rtol=1e-4, atol=1e-7), name
    norm = torch.stack([moment.norm() for moment in large.values() if moment.ndim]).norm() / 0.1
    assert norm > 0.1 if grad_clip > 1 else norm == pytest.approx(grad_clip, rel=1e-3)
    assert max(float(moment.abs()) for moment in large.values() if not moment.ndim) / 0.1 > 0.05


def test_a_learned_balance_is_trained_along(dataset):
    def balanced(**settings):
        objective = WeightedSum([MaskedCell(), DistanceRecovery(), LearnedBalance()])
        result = train(dataset, objective, **settings)
        return result, [float(parameter.detach()) for parameter in objective.parameters()]

    (small, weights), (large, expected) = balanced(accumulate=3), balanced(batch_size=3, noise="parts")
    assert_alike(small, large)
    assert weights == pytest.approx(expected, abs=3e-4)
    assert min(map(abs, weights)) > 0.01


def test_noise_of_parts_does_not_depend_on_what_came_before(dataset):
    def seen(**settings):
        """What is masked in each epoch, by the part, known by the sum of its features."""
        masks = {}

        class Noted(MaskedCell):
            def corrupt(self, batch, generator):
                batch = super().corrupt(batch, generator)
                masks.setdefault(float(batch["cell"].x.sum()), []).append(batch["cell"].masked)
                return batch

        train(dataset, WeightedSum([Noted()]), **settings)
        return masks

    first, other = seen(accumulate=2, max_steps=6), seen(batch_size=3, noise="parts", max_steps=4)
    assert len(first) == len(dataset)
    for part, masks in first.items():
        assert len(masks) == 2
        assert not torch.equal(*masks)
        assert all(torch.equal(a, b) for a, b in zip(masks, other[part], strict=True))


def test_a_wrong_share_would_show(dataset, monkeypatch):
    """The oracle of these tests can tell the mean of means from the mean."""
    monkeypatch.setattr(Steps, "_weigh", lambda self, spoilt, turns, num_batches, cells, stop: (cells, stop))
    with pytest.raises(AssertionError):
        assert_alike(train(dataset, accumulate=2), train(dataset, batch_size=2, noise="parts"))


def test_steps_of_an_epoch(dataset):
    assert [Trainer(batch_size=2, accumulate=n).steps_in(dataset) for n in (1, 2, 3)] == [3, 2, 1]
    assert Layout(2, 2).num_steps(9) == 3


def test_nothing_judged_is_no_loss(dataset):
    class Nothing(MaskedCell):
        def corrupt(self, batch, generator):
            batch = super().corrupt(batch, generator)
            batch["cell"].masked[:] = False
            return batch

    _, history = train(dataset, WeightedSum([Nothing()]), accumulate=2)
    assert {record["loss"] for record in history} == {0.0}


@pytest.mark.parametrize("name", ["accumulate", "devices", "num_nodes", "checkpoint_every"])
def test_senseless_numbers(name):
    with pytest.raises(InputError, match=f"Trainer needs {name} of at least 1, not 0"):
        Trainer(**{name: 0})


@pytest.mark.parametrize("name", ["schedule", "strategy", "noise"])
def test_unknown_choices(name):
    with pytest.raises(InputError, match=f"Trainer's {name} must be one of .* not 'nix'"):
        Trainer(**{name: "nix"})
