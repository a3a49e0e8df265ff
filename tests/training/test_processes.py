"""Several processes, and ones that are killed."""

import itertools
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import stgraph
from stgraph.data.cell_sequences import CellSequences
from stgraph.data.parts import PartDataset
from stgraph.data.token_budget import TokenBudgetSampler
from stgraph.errors import InputError
from stgraph.graph.build import build_graph
from stgraph.models.rank_encoder import RankEncoder
from stgraph.models.se2_transformer import SE2Transformer
from stgraph.objectives.balance import LearnedBalance
from stgraph.objectives.base import WeightedSum
from stgraph.objectives.distance_recovery import DistanceRecovery
from stgraph.objectives.masked_cell import MaskedCell
from stgraph.objectives.masked_gene import MaskedGene
from stgraph.partition.spatial import CoordinateBisection
from stgraph.preprocess.ragged_tokens import RaggedTokens
from stgraph.training.batches import SampledBatches
from stgraph.training.loop import Trainer
from stgraph.training.run_state import RESUME_POINT

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that begin where this one is"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]

# Neither clipped nor decayed, and large steps, so that a gradient that is a little off shows.
SETTINGS = {
    "max_steps": 5,
    "lr": 0.01,
    "warmup_steps": 0,
    "weight_decay": 0.0,
    "grad_clip": 1e6,
    "accelerator": "cpu",
    "noise": "parts",
}


@pytest.fixture(scope="module")
def dataset():
    """Five parts of two sizes: the last step of an epoch is too small for two processes."""
    sizes = {"large": 320, "small": 50}
    slices = [stgraph.synthetic_tissue(n_cells=n, n_genes=60, random_state=n)[0] for n in sizes.values()]
    for name, adata in zip(sizes, slices, strict=True):
        adata.obs["slice_id"] = name
    return PartDataset([build_graph(adata) for adata in slices], CoordinateBisection(80))


def train(dataset, *, dropout=0.0, only_masked=False, **settings):
    keywords = {name: settings.pop(name) for name in ("resume", "until", "on_step") if name in settings}
    torch.manual_seed(0)
    model = SE2Transformer(20, hidden_channels=16, dropout=dropout)
    objective = WeightedSum([MaskedCell()] if only_masked else [MaskedCell(), DistanceRecovery(), LearnedBalance()])
    history = Trainer(**SETTINGS | settings).fit(model, dataset, objective, **keywords)
    timeless = [{name: value for name, value in record.items() if name != "cells_per_second"} for record in history]
    return timeless, {**model.state_dict(), **objective.state_dict()}


def train_cells(**settings):
    """Cells of one to six genes, of which more are in one batch than in another."""
    lengths = np.tile([2, 3, 4, 7], 10)
    tokens = np.random.default_rng(0).integers(2, 12, lengths.sum()).astype(np.int32)
    cells = CellSequences([RaggedTokens(tokens, np.concatenate([[0], np.cumsum(lengths)]))])
    torch.manual_seed(0)
    model = RankEncoder(12, 4, hidden_channels=8, num_layers=1, heads=2, ffn_channels=8, dropout=0.1)
    data = SampledBatches(cells, TokenBudgetSampler(cells, max_tokens=45))
    history = Trainer(**SETTINGS | settings).fit(model, data, WeightedSum([MaskedGene()]))
    return [record["loss"] for record in history]


CASES = {
    # What two processes do, and one that does the same.
    "twice the batch": ({}, {"batch_size": 2}),
    "accumulated": ({"accumulate": 2}, {"batch_size": 4}),
    "one batch after another, with dropout": ({"dropout": 0.5}, {"dropout": 0.5, "accumulate": 2}),
    "parameters that are not needed": ({"only_masked": True}, {"only_masked": True, "batch_size": 2}),
    "all parameters needed": ({"strategy": "ddp"}, {"batch_size": 2}),
}


def as_one_of_two(dataset, folder, rank, port):
    """What each process does."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
    }
    # Threads do not survive a fork.
    torch.set_num_threads(1)
    results = {name: train(dataset, devices=2, **settings) for name, (settings, _) in CASES.items()}
    results["cells"] = train_cells(devices=2)
    train(dataset, devices=2, max_steps=1, resume=folder / "one step")

    seen = []
    results["seen"] = train(dataset, devices=2, max_steps=2, on_step=seen.append)[0], seen
    results["whole"] = train(dataset, devices=2, dropout=0.1)
    try:
        # Only one of the two is asked to stop, on its own.
        ask = lambda record: rank == 1 and record["step"] == 2 and os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
        train(dataset, devices=2, dropout=0.1, resume=folder / "stopped", until=ask)
    except SystemExit as end:
        results["ended"] = end.code
    torch.distributed.barrier()
    begun = []
    results["resumed"] = train(dataset, devices=2, dropout=0.1, resume=folder / "stopped", on_step=begun.append)
    results["begun at"] = [record["step"] for record in begun]
    torch.save(results, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two(dataset, tmp_path_factory):
    """What two processes said, and their folder."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=as_one_of_two, args=(dataset, folder, rank, port)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
        if process.exitcode is None:
            process.kill()
    assert [process.exitcode for process in processes] == [0, 0]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)], folder


@pytest.mark.parametrize("case", CASES)
def test_two_processes_do_what_one_does(dataset, two, case):
    history, weights = two[0][0][case]
    expected, expected_weights = train(dataset, **CASES[case][1])
    for record, of_one in zip(history, expected, strict=True):
        assert record == pytest.approx(of_one, rel=2e-4)
    assert max(abs(one["loss"] - other["loss"]) for one, other in itertools.pairwise(history)) > 0.01
    for name, weight in weights.items():
        assert torch.allclose(weight, expected_weights[name], atol=5e-4), name


def test_two_processes_do_on_cells_what_one_does(two):
    (first, second), _ = two
    assert first["cells"] == second["cells"] == pytest.approx(train_cells(accumulate=2), rel=1e-4)


def test_both_have_the_same(two):
    (first, second), _ = two
    for case in CASES:
        assert first[case][0] == second[case][0]
        assert all(torch.equal(first[case][1][name], second[case][1][name]) for name in first[case][1])


def test_gradients_are_those_of_one(dataset, two, tmp_path):
    """Adam divides by the size of a gradient, so it would hide a wrong factor; its first moments do not."""
    train(dataset, batch_size=2, max_steps=1, resume=tmp_path)
    one, other = (load_file(folder / RESUME_POINT) for folder in (tmp_path, two[1] / "one step"))
    moments = [name for name in one if name.endswith("/exp_avg")]
    assert len(moments) > 20
    assert max(float(one[name].abs().max()) for name in moments) > 1e-3
    for name in moments:
        assert torch.allclose(one[name], other[name], rtol=1e-4, atol=1e-7), name


def test_the_first_one_tells(two):
    (history, seen), (_, not_seen) = (said["seen"] for said in two[0])
    assert [record["step"] for record in seen] == [record["step"] for record in history] == [1, 2]
    assert not_seen == []


def test_who_is_asked_to_stop_stops_both_and_both_go_on(two):
    for said in two[0]:
        assert said["ended"] == 143
        assert said["resumed"][0] == said["whole"][0]
        assert all(torch.equal(value, said["whole"][1][name]) for name, value in said["resumed"][1].items())
    # The other one hears of it in the step after.
    assert two[0][0]["begun at"] == [4, 5]


def run_slowly(dataset, folder):
    """Train with time for a kill in each step, and keep each step."""
    torch.set_num_threads(1)
    train(dataset, dropout=0.1, max_steps=12, checkpoint_every=1, resume=folder, until=lambda _: time.sleep(0.02))


def test_killed_at_random_moments(dataset, tmp_path):
    fork, draw, kills, patience = multiprocessing.get_context("fork"), random.Random(0), 0, 0.2
    while True:
        process = fork.Process(target=run_slowly, args=(dataset, tmp_path))
        process.start()
        process.join(timeout=draw.uniform(0, patience))
        # Whoever gets nowhere, on a machine that is busy, gets longer.
        patience *= 1.3
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        kills += 1
    assert process.exitcode == 0
    assert kills >= 2
    history, weights = train(dataset, dropout=0.1, max_steps=12, checkpoint_every=1, resume=tmp_path)
    whole, expected = train(dataset, dropout=0.1, max_steps=12)
    assert history == whole
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert [path.name for path in tmp_path.iterdir()] == [RESUME_POINT]


def test_processes_are_not_started_from_within(monkeypatch, dataset):
    for name in ("LOCAL_RANK", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="start the program with torchrun --nproc-per-node 2 --nnodes 1"):
        train(dataset, devices=2)


def test_torchrun_and_the_settings_must_agree(monkeypatch, dataset):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(InputError, match=r"torchrun started 4 processes, but .* is 2: let them agree"):
        train(dataset, devices=2)


SCRIPT = """
import sys
from pathlib import Path
import torch
sys.path.insert(0, {tests!r})
import test_processes as tests

if __name__ == "__main__":
    data = tests.PartDataset(
        [tests.build_graph(tests.stgraph.synthetic_tissue(n_cells=320, n_genes=60)[0])], tests.CoordinateBisection(80)
    )
    {what}
"""


def script(path, what):
    path.write_text(SCRIPT.format(tests=os.path.dirname(__file__), what=what))  # noqa: PTH120
    return str(path)


@pytest.mark.slow
def test_torchrun(tmp_path):
    whats = {
        2: "history, _ = tests.train(data, devices=2)",
        1: "history, _ = tests.train(data, batch_size=2)",
    }
    said = []
    for number, what in whats.items():
        file = script(tmp_path / f"{number}.py", what + "\n    torch.save(history, Path(__file__).with_suffix('.pt'))")
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(number)]
        subprocess.run([*torchrun, file], check=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"})
        said.append(torch.load(tmp_path / f"{number}.pt", weights_only=True))
    for record, expected in zip(*said, strict=True):
        assert record == pytest.approx(expected, rel=2e-4)


@pytest.mark.slow
def test_a_program_killed_at_random_moments(tmp_path):
    file = script(tmp_path / "run.py", "tests.run_slowly(data, Path(__file__).with_name('run'))")
    draw, kills = random.Random(1), 0
    while True:
        process = subprocess.Popen([sys.executable, file], env=os.environ | {"OMP_NUM_THREADS": "1"})
        while kills < 3 and process.poll() is None and not (tmp_path / "run" / RESUME_POINT).exists():
            time.sleep(0.01)
        if kills < 3:
            time.sleep(draw.uniform(0, 0.15))
            process.kill()
        kills += 1
        if process.wait(timeout=300) == 0:
            break
    assert kills > 2
    data = PartDataset([build_graph(stgraph.synthetic_tissue(n_cells=320, n_genes=60)[0])], CoordinateBisection(80))
    history, weights = train(data, dropout=0.1, max_steps=12, checkpoint_every=1, resume=tmp_path / "run")
    whole, expected = train(data, dropout=0.1, max_steps=12)
    assert history == whole
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
