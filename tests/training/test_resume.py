"""A run that was interrupted, wherever, ends as if it never had been."""

import os
import signal
from dataclasses import replace

import pytest
import torch
from torch_geometric.transforms import Compose

from stgraph.data.box import SliceBox
from stgraph.data.parts import PartDataset
from stgraph.data.transforms import DropGenes, JitterPositions
from stgraph.errors import CheckpointError, InputError
from stgraph.graph.build import build_graph
from stgraph.models.se2_transformer import SE2Transformer
from stgraph.objectives.balance import LearnedBalance
from stgraph.objectives.base import WeightedSum
from stgraph.objectives.distance_recovery import DistanceRecovery
from stgraph.objectives.masked_cell import MaskedCell
from stgraph.partition.spatial import CoordinateBisection
from stgraph.training.batches import PartBatches
from stgraph.training.fingerprint import data_print
from stgraph.training.loop import Trainer
from stgraph.training.run_state import RESUME_POINT

STEPS = 5


@pytest.fixture
def dataset(tissue):
    return PartDataset([build_graph(tissue)], CoordinateBisection(110))


class Run:
    """One run, in as many attempts as it takes; each begins with other weights, which are not to matter."""

    def __init__(self, dataset, folder, **settings):
        self.dataset, self.folder = dataset, folder
        self.trainer = Trainer(**{"max_steps": STEPS, "warmup_steps": 2, "checkpoint_every": 1000} | settings)
        self.attempts = 0

    def attempt(self, on_step=None, channels=8, objective=None, **changed):
        torch.manual_seed(self.attempts)
        self.attempts += 1
        self.model = SE2Transformer(20, hidden_channels=channels, dropout=0.1)
        self.objective = objective or WeightedSum([MaskedCell(), DistanceRecovery(), LearnedBalance()])
        trainer = replace(self.trainer, **changed)
        history = trainer.fit(self.model, self.dataset, self.objective, on_step=on_step, resume=self.folder)
        self.history = [{k: v for k, v in record.items() if k != "cells_per_second"} for record in history]
        return self

    def interrupted(self, *steps, how=signal.SIGTERM, ends=SystemExit):
        """Asked to stop in each of these steps, then not any more."""
        for step in steps:
            with pytest.raises(ends):
                self.attempt(lambda record, at=step: record["step"] == at and os.kill(os.getpid(), how))
        return self.attempt()


def weights(run):
    return [*run.model.state_dict().values(), *run.objective.state_dict().values()]


def assert_same(run, other):
    assert run.history == other.history
    assert all(torch.equal(a, b) for a, b in zip(weights(run), weights(other), strict=True))


@pytest.mark.parametrize("settings", [{}, {"batch_size": 2, "noise": "parts"}, {"accumulate": 2}])
def test_stopped_at_any_step(dataset, tmp_path, settings):
    whole = Run(dataset, None, **settings).attempt()
    for step in range(1, STEPS):
        run = Run(dataset, tmp_path / str(step), **settings)
        # What the attempts begin with is not to matter, but that of the first, which is that of the whole run.
        assert_same(run.interrupted(step), whole)
    assert whole.history[0]["loss"] != whole.history[1]["loss"]


def test_stopped_at_every_step(dataset, tmp_path):
    whole = Run(dataset, None).attempt()
    run = Run(dataset, tmp_path).interrupted(*range(1, STEPS))
    assert run.attempts == STEPS
    assert_same(run, whole)


def test_transforms_go_on_where_they_were(tissue, tmp_path):
    def run(folder):
        # Anew for each attempt, as in a new process.
        again = Run(None, folder, warmup_steps=1)
        attempt = again.attempt

        def with_data(*arguments, **changed):
            transform = Compose([SliceBox([graph]), JitterPositions(0.3), DropGenes(0.2)])
            again.dataset = PartDataset([graph], CoordinateBisection(110), transform=transform)
            return attempt(*arguments, **changed)

        again.attempt = with_data
        return again

    graph = build_graph(tissue)
    assert_same(run(tmp_path).interrupted(2, 3), run(None).attempt())


def test_what_tells_runs_apart_draws_nothing_from_transforms(tissue):
    graph, transform = build_graph(tissue), JitterPositions(0.3)
    batches = PartBatches(PartDataset([graph], CoordinateBisection(110), transform=transform))
    first = data_print(batches)
    before = transform.generator.get_state()
    batches.units([0, 1])
    moved_on = transform.generator.get_state()
    assert not torch.equal(before, moved_on)
    assert data_print(batches) == first
    assert torch.equal(transform.generator.get_state(), moved_on)


def test_with_bfloat16(dataset, tmp_path):
    settings = {"precision": "bf16-mixed", "max_steps": 2}
    assert_same(Run(dataset, tmp_path, **settings).interrupted(1), Run(dataset, None, **settings).attempt())


def test_a_crash_costs_the_steps_since_the_last_point(dataset, tmp_path):
    whole, run = Run(dataset, None).attempt(), Run(dataset, tmp_path, checkpoint_every=2)

    def crash(record):
        if record["step"] == 4:
            raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        run.attempt(crash)
    seen = []
    assert_same(run.attempt(seen.append), whole)
    assert [record["step"] for record in seen] == [3, 4, 5]


def test_a_run_that_has_ended_is_not_repeated(dataset, tmp_path):
    run = Run(dataset, tmp_path).attempt()
    whole, seen = weights(run), []
    history = run.history
    run.attempt(seen.append)
    assert seen == []
    assert run.history == history
    assert all(torch.equal(a, b) for a, b in zip(weights(run), whole, strict=True))
    assert all(type(run.history[0][name]) is int for name in ("step", "epoch"))
    assert not run.model.training


def test_ended_by_until_is_ended(dataset, tmp_path):
    for _ in range(2):
        model = SE2Transformer(20, hidden_channels=8)
        trainer, objective = Trainer(max_steps=9), WeightedSum([MaskedCell()])
        history = trainer.fit(model, dataset, objective, until=lambda record: record["step"] == 3, resume=tmp_path)
        assert len(history) == 3


def test_nothing_is_kept_unless_asked(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    seen = []

    def note(record):
        seen.append((signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)))

    Run(dataset, None).attempt(note)
    assert set(seen) == {before}
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c(dataset, tmp_path):
    whole = Run(dataset, None).attempt()
    before = signal.getsignal(signal.SIGINT)
    assert_same(Run(dataset, tmp_path).interrupted(3, how=signal.SIGINT, ends=KeyboardInterrupt), whole)
    assert signal.getsignal(signal.SIGINT) is before


def test_who_caught_sigterm_before_still_does(dataset, tmp_path):
    class Ours(BaseException):
        pass

    def ours(*_):
        raise Ours

    before = signal.signal(signal.SIGTERM, ours)
    try:
        Run(dataset, tmp_path).interrupted(2, ends=Ours)
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_second_ctrl_c_is_obeyed_at_once(dataset, tmp_path):
    run, steps = Run(dataset, tmp_path), []

    def twice(record):
        os.kill(os.getpid(), signal.SIGINT)
        steps.append("one asked")
        os.kill(os.getpid(), signal.SIGINT)
        steps.append("never here")

    with pytest.raises(KeyboardInterrupt):
        run.attempt(twice)
    assert steps == ["one asked"]
    assert not (tmp_path / RESUME_POINT).exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lr": 0.5}, "its trainer.lr is 0.003, not 0.5"),
        ({"max_steps": 9}, "its trainer.max_steps is 5, not 9"),
        ({"random_state": 1}, "its trainer.random_state is 0, not 1"),
        ({"accumulate": 2}, "its trainer.accumulate is 1, not 2"),
        ({"channels": 4}, "its model.settings.hidden_channels is 8, not 4"),
        ({"objective": WeightedSum([MaskedCell()])}, "its objective.settings.objectives are 2, not 1"),
        (
            {"objective": WeightedSum([MaskedCell(0.2), DistanceRecovery(), LearnedBalance()])},
            "its objective.settings.objectives.0.mask_rate is 0.3, not 0.2",
        ),
        (
            {"objective": WeightedSum([MaskedCell(), DistanceRecovery()])},
            "its objective.settings.balance",
        ),
    ],
)
def test_another_run_is_refused(dataset, tmp_path, changed, message):
    run = Run(dataset, tmp_path)
    with pytest.raises(SystemExit):
        run.attempt(lambda _: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(InputError, match=rf"'.*{RESUME_POINT}' is of another run, for {message}.*begin anew"):
        run.attempt(**changed)
    # How often it is kept is no matter.
    assert len(run.attempt(checkpoint_every=2).history) == STEPS


def test_other_data_are_refused(dataset, tmp_path, slices):
    Run(dataset, tmp_path).attempt()
    fewer = PartDataset([build_graph(slices[0])], CoordinateBisection(200))
    with pytest.raises(InputError, match=r"another run, for its data\.batches is 3, not 2"):
        Run(fewer, tmp_path).attempt()
    other = PartDataset([build_graph(slices[1])], CoordinateBisection(110))
    with pytest.raises(InputError, match="another run, for its data have another content"):
        Run(other, tmp_path).attempt()


def truncate(path):
    path.write_bytes(path.read_bytes()[:-9])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage", [truncate, flip, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"x" * 99)]
)
def test_damage_is_named(dataset, tmp_path, damage):
    run = Run(dataset, tmp_path, max_steps=1).attempt()
    damage(tmp_path / RESUME_POINT)
    with pytest.raises(CheckpointError, match=rf"The resume point '.*{RESUME_POINT}' is damaged: delete it"):
        run.attempt()


def test_another_version_is_named(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("stgraph.training.run_state._FORMAT_VERSION", 99)
    run = Run(dataset, tmp_path, max_steps=1).attempt()
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="format version 99, not 1"):
        run.attempt()


def test_what_a_kill_leaves_is_swept(dataset, tmp_path):
    (tmp_path / ".resume.tmp").mkdir()
    (tmp_path / ".resume.tmp" / ".tmp1234").write_bytes(b"half")
    Run(dataset, tmp_path, max_steps=1).attempt()
    assert [path.name for path in tmp_path.iterdir()] == [RESUME_POINT]


def test_a_failure_to_write_leaves_the_point_before(dataset, tmp_path, monkeypatch):
    whole, run = Run(dataset, None).attempt(), Run(dataset, tmp_path, checkpoint_every=2)

    def full(source, target):
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        run.attempt(lambda record: record["step"] == 3 and monkeypatch.setattr("pathlib.Path.replace", full))
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == [RESUME_POINT]
    assert_same(run.attempt(), whole)
