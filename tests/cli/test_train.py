"""Training in stages from the command line: settings, results, and going on after a crash."""

import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import anndata
import numpy as np
import pytest
import yaml

from stgraph._config import TARGET, instantiate, to_config
from stgraph.cli.compose import compose_config
from stgraph.cli.train_run import experiments
from stgraph.tasks.adapt_cells import AdaptCells
from stgraph.tasks.pretrain import pretrain
from stgraph.tasks.train_graphs import TrainGraphs
from stgraph.tasks.train_jointly import TrainJointly

TINY = [
    "experiment=stofm_small",
    "encoder.settings={out_channels: 8, hidden_channels: 8, num_layers: 1, heads: 2, ffn_channels: 8}",
    "encoder.max_length=20",
    "model.hidden_channels=8",
    "model.num_layers=1",
    "model.heads=2",
    "model.ffn_channels=8",
    "model.num_kernels=4",
    "partition.part_size=100",
    "trainer.warmup_steps=1",
    "trainer.checkpoint_every=2",
    "trainer.accelerator=cpu",
    "stages.adapt.epochs=1",
    "stages.spatial.epochs=2",
    "stages.joint.epochs=2",
    "stages.joint.trainer.warmup_steps=1",
]


def data_files(files):
    return f"data.files=[{','.join(map(str, files))}]"


def embedding(path):
    return anndata.read_h5ad(path).obsm["X_stgraph"]


def test_help(cli):
    result = cli("train", "--help")
    assert result.code == 0
    for word in (
        "experiment=stofm",
        "data.files=[a.h5ad,b.h5ad]",
        "out=",
        "redo=true",
        "stages.NAME.epochs",
        "torchrun",
    ):
        assert word in result.out
    assert "train" in cli("--help").out


def test_without_settings_it_helps(cli):
    result = cli("train")
    assert "Usage" in result.out + result.err
    assert "Traceback" not in result.err


def test_settings_are_shown_and_nothing_is_done(cli, tmp_path):
    result = cli("train", "experiment=stofm", "data.files=a.h5ad", "out=o", "trainer.lr=0.5", "--show")
    assert result.code == 0
    shown = yaml.safe_load(result.out)
    assert shown["stages"]["joint"]["trainer"]["lr"] == shown["stages"]["adapt"]["trainer"]["lr"] == 0.5
    assert list(shown["stages"]) == ["adapt", "spatial", "joint"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a.h5ad",), r"'a.h5ad' is no setting: they are KEY=VALUE, such as data.files=\[a.h5ad\]"),
        (("out=o", "data.files=a.h5ad"), "no stage is set: choose .*experiment=stofm or experiment=stofm_small"),
        (("experiment=nix", "out=o"), "cannot be used: .*nix.*The settings there are stand in files of '.*configs'"),
        (("experiment=stofm", "out=o"), r"Say which slices to train on: data.files=\[a.h5ad,b.h5ad\]"),
        (("experiment=stofm", "data.files=a.h5ad"), "Say where the results go: out=DIR"),
        (("experiment=stofm", "out=o", "data.files=a.h5ad"), "'a.h5ad'"),
        (("experiment=stofm", "out=o", "data.files=*.nix"), r"data.files: no file matches '\*.nix'"),
        (("experiment=stofm", "out=o", "data.files={a: b}"), "data.files takes names of files"),
        (("experiment=stofm", "out=o", "data.file=a.h5ad"), "cannot be used: .*file"),
        (("experiment=stofm", "out=o", "+data.file=a.h5ad"), "The settings of data hold file, which nothing reads"),
        (("experiment=stofm", "out=o", "+nix=1"), "The settings hold nix, which nothing reads"),
        (("experiment=stofm", "out=o", "data.files=[a.h5ad"), "cannot be used"),
        (("experiment=stofm", "out=o", "data.files=a.h5ad", "redo=maybe"), "redo must be true or false, not 'maybe'"),
        (
            ("experiment=stofm", "out=o", "data.files=a.h5ad", "data.um_per_unit={b: 1}"),
            "data.um_per_unit: no slice file is called 'b'; there are: a",
        ),
        (("experiment=stofm", "out=o", "data.files=a.h5ad", "data.um_per_unit=abc"), "a number, or {NAME: number}"),
        (("experiment=stofm", "stages={adapt: null, spatial: null, joint: null}"), "no stage is set"),
    ],
)  # fmt: skip
def test_what_is_refused(refused, arguments, message):
    assert re.search(message, refused("train", *arguments))


def test_a_folder_of_others_is_left_alone(refused, files, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    assert "holds something else" in refused("train", *TINY, data_files(files[:1]), "out=out")
    (tmp_path / "file").touch()
    assert "is a file" in refused("train", *TINY, data_files(files[:1]), "out=file")
    ours = tmp_path / "ours"
    ours.mkdir()
    (ours / "settings.yaml").touch()
    (ours / "a.h5ad").touch()
    assert "where results would replace it" in refused("train", *TINY, "data.files=ours/a.h5ad", "out=ours")


@pytest.fixture(scope="module")
def trained(files, tmp_path_factory):
    """What the recipe leaves, in this process and without a break."""
    from rich.console import Console

    from stgraph.cli.train_run import run_train

    out = tmp_path_factory.mktemp("trained") / "out"
    log = out.with_name("log")
    config = compose_config("train", [*TINY, data_files(files[:2]), f"out={out}"], option="")
    with log.open("w") as handle, pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)
        run_train(config, console=Console(file=handle, width=200))
    return out, log.read_text()


def test_results(trained):
    out, log = trained
    names = {path.name for path in out.iterdir()}
    assert {"config.json", "settings.yaml", "first.h5ad", "second.h5ad", "stages", "cache"} <= names
    assert ".lock" not in names
    adata = anndata.read_h5ad(out / "first.h5ad")
    assert adata.obsm["X_stgraph"].shape == (200, 8)
    assert np.isfinite(adata.obsm["X_stgraph"]).all()
    for stage in ("adapt", "spatial", "joint"):
        records = [json.loads(line) for line in (out / "stages" / stage / "metrics.jsonl").read_text().splitlines()]
        assert [record["step"] for record in records] == list(range(1, len(records) + 1))
        assert f"{stage}: trained, {len(records)} steps" in log
    assert "masked_cell" in log


def test_embed_applies_it_to_a_slice(trained, cli, files, tmp_path):
    out, _ = trained
    result = cli("embed", files[0], "--model", out, "--out", "e.h5ad")
    assert result.code == 0, result.err
    np.testing.assert_allclose(embedding(tmp_path / "e.h5ad"), embedding(out / "first.h5ad"), rtol=1e-4, atol=1e-5)
    assert cli("embed", files[2], "--model", out, "--out", "new.h5ad").code == 0


def test_the_same_command_again_keeps_all(trained, cli, files):
    out, _ = trained
    before = (out / "stages" / "joint" / "model.safetensors").stat().st_mtime_ns
    result = cli("train", *TINY, data_files(files[:2]), f"out={out}")
    assert result.code == 0, result.err
    for stage in ("adapt", "spatial", "joint"):
        assert f"{stage}: was done already" in result.err
    assert (out / "stages" / "joint" / "model.safetensors").stat().st_mtime_ns == before


def test_another_setting_is_refused_and_changes_nothing(trained, refused, files):
    out, _ = trained
    before = (out / "settings.yaml").read_bytes()
    said = refused("train", *TINY, data_files(files[:2]), f"out={out}", "trainer.batch_size=3")
    assert "'adapt'" in said
    assert "trainer.batch_size was 2 and is 3" in said
    assert (out / "settings.yaml").read_bytes() == before


def written(out):
    return {path.name: path.stat().st_mtime_ns for path in out.iterdir() if path.is_file()}


def test_what_is_there_is_not_written_again(trained, cli, files, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(trained[0], out)
    command = ("train", *TINY, data_files(files[:2]), f"out={out}")
    assert cli(*command).code == 0  # out= is another
    before = written(out)
    assert cli(*command).code == 0
    assert written(out) == before
    (out / "second.h5ad").unlink()
    assert cli(*command).code == 0
    now = written(out)
    assert now.keys() == before.keys()
    assert now["config.json"] > before["config.json"]


def test_a_folder_that_is_half_written_is_no_model(trained, cli, files, tmp_path, monkeypatch):
    from stgraph.io.write import write_h5ad

    out = tmp_path / "out"
    shutil.copytree(trained[0], out)

    def full(adata, path):
        if path.name == "second.h5ad":
            raise OSError(28, "No space left on device")
        write_h5ad(adata, path)

    monkeypatch.setattr("stgraph.cli.train_run.write_h5ad", full)
    result = cli("train", *TINY, data_files(files[:2]), f"out={out}")
    assert result.code == 1
    assert f"error: '{out}' cannot be written ([Errno 28]" in result.err
    assert not (out / "config.json").exists()


def test_what_cannot_be_read_is_not_called_output(cli, files, monkeypatch):
    def gone(*_, **__):
        raise OSError(5, "Input/output error", str(files[0]))

    monkeypatch.setattr("stgraph.cli.train_run.read_slices", gone)
    result = cli("train", *TINY, data_files(files[:2]), "out=o")
    assert result.code == 1
    assert f"error: [Errno 5] Input/output error: '{files[0]}'" in result.err
    assert "cannot be written" not in result.err


def test_what_cannot_be_written_is_refused_before_training(refused, files, monkeypatch):
    from stgraph.io.read import read

    adata = read(files[0])
    adata.uns["thesis"] = object()
    monkeypatch.setattr("stgraph.cli.train_run.read_slices", lambda *_, **__: [adata])
    monkeypatch.setattr("stgraph.cli.train_run.pretrain", None)
    said = refused("train", *TINY, data_files(files[:1]), "out=o")
    assert re.search("what the slice holds beside its counts cannot be written to an h5ad file .*thesis", said)


def test_a_setting_that_decides_nothing_may_change(trained, cli, files):
    out, _ = trained
    result = cli("train", *TINY, data_files(files[:2]), f"out={out}", "trainer.max_steps=77")
    assert result.code == 0, result.err
    assert "adapt: was done already" in result.err


KILLED_AFTER = [("adapt", 2), ("spatial", 1), ("joint", 1)]


@pytest.mark.slow
@pytest.mark.parametrize("at", KILLED_AFTER)
def test_killed_it_goes_on_with_the_same_numbers(trained, files, tmp_path, at):
    stage, steps = at
    out = tmp_path / "out"
    command = [sys.executable, "-m", "stgraph.cli.main", "train", *TINY, data_files(files[:2]), f"out={out}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    metrics = out / "stages" / stage / "metrics.jsonl"
    while process.poll() is None and not (metrics.is_file() and len(metrics.read_text().splitlines()) >= steps):
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
    assert not (out / "config.json").exists()
    again = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert again.returncode == 0, again.stderr
    for name in ("first", "second"):
        np.testing.assert_array_equal(embedding(out / f"{name}.h5ad"), embedding(trained[0] / f"{name}.h5ad"))
    for name in ("adapt", "spatial", "joint"):
        weights = [folder / "stages" / name / "model.safetensors" for folder in (out, trained[0])]
        assert weights[0].read_bytes() == weights[1].read_bytes(), name


def test_the_recipe_is_that_of_the_constructors():
    """What configs/experiment/stofm.yaml says of stages is what the plans do by themselves, but for the objectives."""
    stages = compose_config("train", ["experiment=stofm", "out=o", "data.files=a"])["stages"]
    for config, cls in zip(stages.values(), (AdaptCells, TrainGraphs, TrainJointly), strict=True):
        plan, own = to_config(instantiate(config)), to_config(cls())
        for each in (plan, own):
            each.pop("objectives")
            each["trainer"] = {
                k: each["trainer"][k] for k in ("lr", "warmup_steps", "schedule", "grad_clip", "accumulate")
            }
        assert plan == own


@pytest.mark.parametrize("experiment", experiments())
def test_every_experiment_builds(experiment):
    config = compose_config("train", [f"experiment={experiment}", "out=o", "data.files=a"])
    for name in ("encoder", "graph", "virtual_cells", "partition", "stages", "objective"):
        instantiate(config.get(name))
    instantiate(config["model"] | {"in_channels": 8})
    assert all(TARGET in plan for plan in config["stages"].values())


def test_settings_reach_the_run(cli, files, monkeypatch):
    """Sections, units, patterns and cells to keep are passed on as a person means them."""
    seen = {}

    def stand_in(slices, folder, **arguments):
        seen.update(arguments, slices=slices)
        raise KeyboardInterrupt

    monkeypatch.setattr("stgraph.cli.train_run.pretrain", stand_in)
    pattern = files[0].with_name("*ir*.h5ad")  # first and third
    others = ("virtual_cells=none", "random_state=7", 'data.keep="domain == domain"')
    result = cli("train", *TINY, f"data.files={pattern}", "out=o", *others)
    assert result.code == 130
    assert "run the same command again to go on" in result.err
    assert [adata.obs["slice_id"].iloc[0] for adata in seen["slices"]] == ["first", "third"]
    assert seen["virtual_cells"] is None
    assert seen["domains"] is None
    assert seen["random_state"] == 7
    assert seen["stages"]["joint"]["trainer"]["random_state"] == 7
    assert set(seen) >= {"encoder", "builder", "partitioner", "model", "num_hops", "redo", "watch"}
    assert {"slices", "watch"} <= inspect.signature(pretrain).bind(folder="o", **seen).arguments.keys()
