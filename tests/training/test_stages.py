"""Stages: done once, gone on with after any end, and never taken for another."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import stgraph
from stgraph.data.parts import PartDataset
from stgraph.errors import CheckpointError, InputError, StgraphWarning
from stgraph.models.se2_transformer import SE2Transformer
from stgraph.objectives.base import WeightedSum
from stgraph.objectives.masked_cell import MaskedCell
from stgraph.partition.spatial import CoordinateBisection
from stgraph.training.frozen import frozen
from stgraph.training.loop import Trainer
from stgraph.training.stage_folder import StageFolder, weights_hash
from stgraph.training.stages import Stage, run_stages

TRAINER = Trainer(max_steps=5, warmup_steps=1, accelerator="cpu", checkpoint_every=2)


@pytest.fixture(scope="module")
def parts():
    adata = stgraph.synthetic_tissue(n_cells=90, n_genes=60)[0]
    x = np.random.default_rng(0).normal(size=(90, 6)).astype(np.float32)
    return PartDataset([stgraph.build_graph(adata, features=x)], CoordinateBisection(30))


@pytest.fixture
def model():
    return new_model()


def new_model():
    torch.manual_seed(0)
    return SE2Transformer(6, hidden_channels=8, heads=2, ffn_channels=8, num_kernels=4)


@pytest.fixture
def stage(model, parts):
    return Stage(
        name="first",
        model=model,
        data=lambda: parts,
        objective=WeightedSum([MaskedCell()]),
        trainer=TRAINER,
        inputs={"trainer": {"lr": TRAINER.lr, "steps": 5}, "data": "abc"},
    )


def second(stage, **changes):
    return replace(stage, **{"name": "second", "inputs": {"of": "second"}} | changes)


class CrashError(Exception):
    pass


class CrashAt:
    """A watch that ends the program without a word, as far as it can from within."""

    def __init__(self, stage, step):
        self.at = stage, step

    def begin(self, stage, num_steps):
        pass

    def step(self, stage, record):
        if (stage, record["step"]) == self.at:
            raise CrashError

    def end(self, result):
        pass


def losses(result):
    return [record["masked_cell"] for record in result.history]


def test_each_stage_goes_on_from_the_one_before(stage, model, tmp_path):
    first, then = run_stages([stage, second(stage)], tmp_path)
    assert (first.how, then.how) == ("trained", "trained")
    assert [record["step"] for record in then.history] == [1, 2, 3, 4, 5]
    alone = new_model()
    StageFolder(tmp_path / "first").load(alone)
    run_stages([second(stage, model=alone)], tmp_path / "again")
    assert weights_hash(alone) == weights_hash(model)
    assert not model.training


def test_what_is_done_is_not_done_again(stage, model, tmp_path):
    before = run_stages([stage, second(stage)], tmp_path)
    left = weights_hash(model)
    model.reset_parameters()

    def never():
        raise AssertionError("data of a stage that is done was asked for")

    again = run_stages([replace(stage, data=never), second(stage, data=never)], tmp_path)
    assert [result.how for result in again] == ["kept", "kept"]
    assert [losses(result) for result in again] == [losses(result) for result in before]
    assert weights_hash(model) == left


def test_stages_are_made_one_by_one(stage, model, tmp_path):
    seen = []

    def made():
        yield stage
        seen.append(weights_hash(model))
        yield second(stage)

    run_stages(made(), tmp_path)
    run_stages(made(), tmp_path)
    untouched = new_model()
    assert seen[0] == seen[1] != weights_hash(untouched)


@pytest.mark.parametrize("at", [("first", 1), ("first", 3), ("first", 5), ("second", 2)])
def test_wherever_it_ends_it_goes_on_with_the_same_numbers(stage, parts, tmp_path, at):
    whole, whole_model = tmp_path / "whole", new_model()
    expected = run_stages([replace(stage, model=whole_model), second(stage, model=whole_model)], whole)
    broken = new_model()
    with pytest.raises(CrashError):
        run_stages([replace(stage, model=broken), second(stage, model=broken)], tmp_path / "run", watch=CrashAt(*at))
    mended = new_model()  # as in a new process
    results = run_stages([replace(stage, model=mended), second(stage, model=mended)], tmp_path / "run")
    assert weights_hash(mended) == weights_hash(whole_model)
    assert [losses(result) for result in results] == [losses(result) for result in expected]
    for name in ("first", "second"):
        lines = [json.loads(line) for line in (tmp_path / "run" / name / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
        assert not (tmp_path / "run" / name / "running").exists()


def test_killed_between_weights_and_tidying(stage, tmp_path):
    run_stages([stage], tmp_path)
    running = tmp_path / "first" / "running"
    running.mkdir()
    (running / "left.safetensors").touch()
    assert run_stages([stage], tmp_path)[0].how == "kept"
    assert not running.exists()


def test_a_line_that_was_cut_off_does_no_harm(stage, tmp_path):
    folder = StageFolder(tmp_path / "first")
    with pytest.raises(CrashError):
        run_stages([stage], tmp_path, watch=CrashAt("first", 4))
    with folder.metrics.open("a") as handle:
        handle.write('{"step": 5, "mask')
    assert run_stages([replace(stage, model=new_model())], tmp_path)[0].how == "resumed"
    assert [record["step"] for record in folder.history()] == [1, 2, 3, 4, 5]


def test_other_settings_are_refused_by_name(stage, model, tmp_path):
    run_stages([stage], tmp_path)
    left = weights_hash(model)
    other = replace(stage, inputs={"trainer": {"lr": 0.5, "steps": 5}, "data": "abc"})
    with pytest.raises(
        InputError, match=r"'first' in .* was trained with other .*: trainer.lr was 0.003 and is 0.5\. .*redo=true"
    ):
        run_stages([other], tmp_path)
    assert run_stages([stage], tmp_path)[0].how == "kept"
    assert weights_hash(model) == left


def test_many_changes_are_counted(stage, tmp_path):
    run_stages([stage], tmp_path)
    with pytest.raises(InputError, match="; and 1 more"):
        run_stages([replace(stage, inputs={"a": 1, "b": 2, "c": None})], tmp_path)


def test_a_stage_that_was_begun_otherwise_is_refused_too(stage, tmp_path):
    with pytest.raises(CrashError):
        run_stages([stage], tmp_path, watch=CrashAt("first", 3))
    with pytest.raises(InputError, match='was begun with other settings or data: data was "abc" and is "xyz"'):
        run_stages([replace(stage, model=new_model(), inputs={**stage.inputs, "data": "xyz"})], tmp_path)


def test_redo_trains_what_changed_and_all_that_follows(stage, tmp_path):
    third = second(stage, name="third", inputs={"of": "third"})
    run_stages([stage, second(stage), third], tmp_path)
    changed = second(stage, inputs={"of": "another"})
    with pytest.raises(InputError, match="'second'"):
        run_stages([stage, changed, third], tmp_path)
    # The third has the same settings as before, but starts from other weights.
    trained = second(stage, inputs={"of": "another"}, trainer=replace(TRAINER, random_state=1))
    results = run_stages([stage, trained, third], tmp_path, redo=True)
    assert [result.how for result in results] == ["kept", "trained", "trained"]
    assert [r.how for r in run_stages([stage, trained, third], tmp_path)] == ["kept"] * 3


def test_in_the_middle_of_a_stage_another_device_goes_on(stage, tmp_path, monkeypatch):
    with pytest.raises(CrashError):
        run_stages([stage], tmp_path, watch=CrashAt("first", 3))
    elsewhere = replace(TRAINER, accelerator="auto", strategy="ddp")
    assert run_stages([replace(stage, model=new_model(), trainer=elsewhere)], tmp_path)[0].how == "resumed"


def test_in_the_middle_of_a_stage_another_trainer_begins_anew_if_it_may(stage, tmp_path):
    """One whose settings are not among the inputs, as where precision is chosen by the device."""
    with pytest.raises(CrashError):
        run_stages([stage], tmp_path, watch=CrashAt("first", 3))
    other = replace(stage, model=new_model(), trainer=replace(TRAINER, precision="bf16-mixed"))
    with pytest.raises(InputError, match=r"precision is '32-true', not 'bf16-mixed'.* With redo=true, in one process"):
        run_stages([other], tmp_path)
    assert run_stages([other], tmp_path, redo=True)[0].how == "trained"
    expected = replace(other, model=new_model())
    run_stages([expected], tmp_path / "whole")
    assert weights_hash(expected.model) == weights_hash(other.model)


def test_what_is_trained_again_stands_until_its_successor_is_done(stage, model, tmp_path):
    run_stages([stage], tmp_path)
    left = weights_hash(model)
    other = replace(stage, inputs={"of": "another"}, trainer=replace(TRAINER, random_state=1))
    with pytest.raises(CrashError):
        run_stages([other], tmp_path, redo=True, watch=CrashAt("first", 3))
    stood = new_model()
    StageFolder(tmp_path / ".first.before").load(stood)
    assert weights_hash(stood) == left
    # Gone back on, and to what was: it is there.
    assert run_stages([replace(stage, model=new_model())], tmp_path, redo=True)[0].how == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["first"]
    # Begun again, and this time to the end.
    with pytest.raises(CrashError):
        run_stages([other], tmp_path, redo=True, watch=CrashAt("first", 3))
    assert run_stages([other], tmp_path)[0].how == "resumed"
    assert [path.name for path in tmp_path.iterdir()] == ["first"]


def test_a_stage_begins_from_all_before_it_not_only_from_the_last(stage, tmp_path):
    """The middle one trains another network, and comes out the same whatever the first did."""

    def three(first):
        between = replace(stage, name="between", model=new_model(), inputs={"of": "between"})
        return [first, between, second(first)]

    run_stages(three(stage), tmp_path)
    otherwise = replace(stage, model=new_model(), inputs={"seed": 1}, trainer=replace(TRAINER, random_state=1))
    results = run_stages(three(otherwise), tmp_path, redo=True)
    assert [result.how for result in results] == ["trained"] * 3


def test_other_weights_before_are_other_inputs(stage, tmp_path):
    run_stages([stage, second(stage)], tmp_path)
    otherwise = replace(stage, name="zeroth", inputs={"of": "zeroth"}, trainer=replace(TRAINER, random_state=3))
    with pytest.raises(InputError, match=r"'second' .* start was"):
        run_stages([otherwise, second(stage)], tmp_path)


def test_epochs_are_counted_in_steps(stage, parts, tmp_path):
    assert len(parts) == 3
    trainer = replace(TRAINER, batch_size=2)
    result = run_stages([replace(stage, epochs=2, trainer=trainer)], tmp_path)[0]
    assert [(record["step"], record["epoch"]) for record in result.history] == [(1, 1), (2, 1), (3, 2), (4, 2)]


def test_a_rise_that_never_ends_is_said(stage, tmp_path):
    with pytest.warns(StgraphWarning, match="'first' has 5 steps, .* rises over 5: it never comes to 0.003"):
        run_stages([replace(stage, trainer=replace(TRAINER, warmup_steps=5))], tmp_path)


def test_what_is_frozen_stays(stage, model, tmp_path):
    other = new_model()
    before = weights_hash(other)
    run_stages([replace(stage, frozen=[other])], tmp_path)
    assert weights_hash(other) == before
    assert all(parameter.requires_grad for parameter in other.parameters())
    assert not other.training
    left = weights_hash(model.blocks[0])
    with frozen([model.blocks[0]]):
        run_stages([second(stage)], tmp_path / "half")
    assert weights_hash(model.blocks[0]) == left


def test_a_changed_byte_is_found(stage, tmp_path):
    run_stages([stage], tmp_path)
    path = tmp_path / "first" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="has changed since it was written"):
        run_stages([stage], tmp_path)
    (tmp_path / "first" / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"is damaged .* delete '.*first' to train it again"):
        run_stages([stage], tmp_path)


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", ".."])
def test_a_name_is_that_of_a_folder(stage, name):
    with pytest.raises(InputError, match="named after its folder"):
        replace(stage, name=name)


def test_names_are_distinct(stage, tmp_path):
    with pytest.raises(InputError, match="Two stages are called 'first'"):
        run_stages([stage, stage], tmp_path)


def test_weights_hash_sees_names_shapes_and_types():
    linear, other = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    other.load_state_dict(linear.state_dict())
    assert weights_hash(linear) == weights_hash(other)
    assert weights_hash(linear) != weights_hash(other.double())
    assert weights_hash(torch.nn.Module()) != weights_hash(linear)
