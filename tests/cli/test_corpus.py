"""`stgraph corpus`, as a person and as a batch system run it."""

import inspect
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import stgraph
from stgraph._config import instantiate
from stgraph.cli.compose import compose_config
from stgraph.cli.corpus import _size
from stgraph.data.corpus import build_corpus
from stgraph.data.manifest import Manifest
from stgraph.data.shards import Shard
from stgraph.data.store import CorpusDataset
from stgraph.preprocess.encoder import LogPCA

SMALL = ["--set", "partition.part_size=60", "--set", "graph.n_neighbors=6"]


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slices")
    for i, adata in enumerate(stgraph.synthetic_tissue(n_cells=150, n_genes=60, n_slices=8)):
        del adata.obs["slice_id"]
        adata.write_h5ad(folder / f"s{i}.h5ad")
    return sorted(folder.iterdir())


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def start(slices, out, *options):
    command = [Path(sys.executable).with_name("stgraph"), "corpus", "build", *slices, "--out", out, *SMALL, *options]
    # A session of its own, so that all of its processes can be killed at once, and nothing else.
    return subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True, start_new_session=True)


def test_build_and_verify(cli, slices, tmp_path):
    done = cli("corpus", "build", *slices[:2], "--out", "c", *SMALL, "--obs", "domain")
    assert done.code == 0, done.err
    assert re.search(r"c: 2 slices, 300 cells, 60 genes, 4 parts, [\d.]+ kB", done.err)
    assert cli("corpus", "verify", "c").code == 0
    assert len(CorpusDataset("c")) == 4
    before = contents(tmp_path / "c")
    assert cli("corpus", "build", *slices[:2], "--out", "c", *SMALL, "--obs", "domain").code == 0
    assert contents(tmp_path / "c") == before
    shard = tmp_path / "c" / "shards" / "s1.safetensors"
    content = bytearray(shard.read_bytes())
    content[-9] ^= 1
    shard.write_bytes(content)
    found = cli("corpus", "verify", "c")
    assert found.code == 2
    assert re.fullmatch(r"error: The shard '.*s1\.safetensors' is damaged: part \d has changed.*\n", found.err)
    shard.unlink()
    assert cli("corpus", "build", *slices[:2], "--out", "c", *SMALL, "--obs", "domain").code == 0
    assert contents(tmp_path / "c") == before


def test_options_reach_the_corpus(cli, slices, tmp_path):
    genes = stgraph.read(slices[0]).var_names[:40].tolist()
    (tmp_path / "genes.txt").write_text("\n".join(genes) + "\n\n", encoding="utf-8-sig")
    done = cli(
        *("corpus", "build", slices[0], "--out", "c", "--genes", "genes.txt", "--rep", "spatial", *SMALL),
        *("--keep", "domain != 'L1'", "--set", "virtual_cells=none", "--seed", "3"),
    )
    assert done.code == 0, done.err
    assert "note: s0: 20 of its 60 genes are not in the given vocabulary" in done.err
    manifest = Manifest.load("c")
    assert manifest.genes == genes
    assert manifest.settings["random_state"] == 3
    assert manifest.settings["virtual_cells"] is None
    assert manifest.slices[0].channels == 2
    assert 0 < manifest.num_cells < 150


def test_defaults_are_those_of_the_function():
    config = compose_config("corpus", [])
    signature = inspect.signature(build_corpus).parameters
    for group, name in (("graph", "builder"), ("virtual_cells", "virtual_cells"), ("partition", "partitioner")):
        assert instantiate(config[group]) == signature[name].default
    assert type(instantiate(config["encoder"])) is LogPCA
    for name in ("sample_cells", "random_state"):
        assert config[name] == signature[name].default


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.h5ad"], "there is no such file"),
        (["--set", "graph=nothing"], "The settings (--set) cannot be used"),
        (["--um-per-unit", "much"], "--um-per-unit takes a number"),
        (["--genes", "nowhere.txt"], "The genes in 'nowhere.txt' cannot be read"),
    ],
)
def test_what_cannot_be_used_is_said(cli, slices, arguments, message):
    done = cli("corpus", "build", slices[0], "--out", "c", *SMALL, *arguments)
    assert done.code == 2
    assert "error: " in done.err
    assert message in done.err
    assert "Traceback" not in done.err
    assert cli("corpus", "verify", "c").code == 2


@pytest.mark.parametrize("where", ["building.write_document", "making.write_shard"])
def test_a_full_disk_is_no_fault_of_the_files(cli, slices, monkeypatch, where):
    tried = []

    def full(*_, **__):
        tried.append(1)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"stgraph.data.{where}", full)
        done = cli("corpus", "build", *slices[:3], "--out", "c", *SMALL)
    assert done.code == 1
    assert "error: 'c' cannot be written ([Errno 28] No space left on device)" in done.err
    assert "what is done stays; run the same command again" in done.err
    assert len(tried) == 1  # the next would fail as well
    assert cli("corpus", "build", *slices[:3], "--out", "c", *SMALL).code == 0


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_signals_leave_what_can_be_gone_on_with(cli, slices, monkeypatch, number, code, word):
    """Delivered while the second slice is made."""
    from stgraph.data import making

    write, made = making.write_shard, []

    def interrupted(path, content):
        made.append(path)
        if len(made) == 2:
            os.kill(os.getpid(), number)
            time.sleep(5)
        return write(path, content)

    # Whoever runs the tests in the background of a shell has Control-C ignored, and Python leaves it so.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(making, "write_shard", interrupted)
            done = cli("corpus", "build", *slices[:3], "--out", "c", *SMALL)
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.code == code
    assert f"{word}: what is done stays; run the same command again to go on" in done.err
    assert "nothing was written" not in done.err
    first = made[0].stat().st_mtime_ns
    assert cli("corpus", "build", *slices[:3], "--out", "c", *SMALL).code == 0
    assert made[0].stat().st_mtime_ns == first


def killed_and_resumed(slices, out, whole, rounds, seed):
    """Kill a build with all its workers at some moment, several times; then let it end."""
    rng = random.Random(seed)
    for round_ in range(rounds):
        process = start(slices, out, "--workers", "2")
        # Until something happens, of what happens one after the other, and then a little.
        pattern = rng.choice(["config.json", "encoder/*", "shards/.*", "records/*", "shards/*", "manifest.json"])
        before = set(out.glob(pattern))
        give_up = time.monotonic() + 60
        while process.poll() is None and set(out.glob(pattern)) <= before and time.monotonic() < give_up:
            time.sleep(0.002)
        time.sleep(rng.random() * 0.2)
        with suppress(ProcessLookupError):  # it may have ended before
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), round_
    process = start(slices, out, "--workers", "2")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert contents(out) == whole
    assert not list(out.rglob(".*"))
    names = []
    for record in Manifest.load(out).slices:
        shard = Shard(out / "shards" / record.shard)
        assert np.array_equal(np.sort(shard.arrays["row"]), np.arange(150))
        names += [f"{record.slice_id} {name}" for name in shard.names()]
    wanted = [f"{file.stem} {name}" for file in slices for name in stgraph.read(file).obs_names]
    assert sorted(names) == sorted(wanted)


@pytest.fixture(scope="module")
def whole(slices, tmp_path_factory):
    """What an uninterrupted build makes in this process."""
    out = tmp_path_factory.mktemp("whole") / "c"
    config = compose_config("corpus", SMALL[1::2])
    names = {"graph": "builder", "virtual_cells": "virtual_cells", "partition": "partitioner", "encoder": "encoder"}
    build_corpus(slices, out, **{name: instantiate(config[group]) for group, name in names.items()})
    return contents(out)


def test_kill_9_loses_and_doubles_nothing(slices, whole, tmp_path):
    killed_and_resumed(slices, tmp_path / "c", whole, rounds=1, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
def test_kill_9_many_times(slices, whole, tmp_path, seed):
    killed_and_resumed(slices, tmp_path / "c", whole, rounds=6, seed=seed)


@pytest.mark.slow
def test_workers_do_not_outlive_the_command(slices, whole, tmp_path):
    """Only the command itself is killed, as by the kernel when memory runs out."""
    process = start(slices, tmp_path / "c", "--workers", "2")
    while process.poll() is None and not list((tmp_path / "c").glob("shards/*")):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)  # ends when the last process has closed its end of the pipe
    shutil.rmtree(tmp_path / "c")


def test_sizes_read_well():
    assert [_size(n) for n in (12, 1500, 2e6, 3.45e9, 7e13)] == ["12.0 bytes", "1.5 kB", "2.0 MB", "3.5 GB", "70.0 TB"]
