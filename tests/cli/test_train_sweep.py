"""``stgraph train -m``: sweeps over models that are judged, and over recipes."""

import re

import numpy as np
import pandas as pd
import pytest
import yaml

from stgraph._config import config_dir
from stgraph.baselines.neighbor_mean import NeighborMean
from stgraph.benchmark import run as run_module
from stgraph.benchmark.run import UNITS
from stgraph.cli.sweep import read_sweep
from stgraph.cli.sweep_judged import read_judged
from tests.cli.test_train import TINY, data_files, embedding

REGION = "[{region: {_target_: stgraph.tasks.annotation.Annotation, key: domain, name: region, n_draws: 5}}]"
JUDGED = [
    "experiment=neighbor_scaling_se2",
    "method=neighbor_mean",
    "method.encoder.n_components=6",
    "size=small",
    "random_state=0",
    f"tasks={REGION}",
    "splits=[random]",
    "beside=[]",
    "draw={against: null, size: null}",
    "out=out",
]
DRAWN = ["draw={against: k, size: size}"]


def units(folder):
    return {path.name: path.stat().st_mtime_ns for path in (folder / UNITS).iterdir()}


def numbers(table):
    """What does not depend on how long it took."""
    return table[[name for name in table if "seconds" not in name and "bytes" not in name]]


def test_a_sweep_gives_table_and_figures(cli, files, tmp_path):
    done = cli("train", "-m", *JUDGED, *DRAWN, "k=5,20", "beside=[majority]", data_files(files[:2]))
    assert done.code == 0, done.err
    assert "2 points and 1 model beside, 1 seed; results go to out" in done.err
    table = pd.read_csv(tmp_path / "out" / "table.csv")
    assert set(table["model"]) == {
        "method=neighbor_mean,size=small,k=5",
        "method=neighbor_mean,size=small,k=20",
        "majority",
    }
    assert set(table["k"].dropna()) == {5, 20}
    assert set(table["method"]) == {"neighbor_mean", "majority"}
    scores = table[table["metric"] == "macro_f1"].groupby("model")["value"].mean()
    assert scores.drop("majority").min() > scores["majority"] + 0.2
    points = pd.read_csv(tmp_path / "out" / "scaling.csv")
    assert sorted(points["k"].dropna()) == [5, 20]
    for name in ("metric_k.png", "metric_k.svg", "cost_k.png", "metric_size.png", "differences.csv", "sweep.yaml"):
        assert (tmp_path / "out" / name).stat().st_size > 100
    plan = yaml.safe_load((tmp_path / "out" / "sweep.yaml").read_text())
    assert plan["points"]["method=neighbor_mean,size=small,k=5"] == {"method": "neighbor_mean", "size": "small", "k": 5}
    before = units(tmp_path / "out")
    again = cli("train", "-m", *JUDGED, "k=5,20,10", "beside=[majority]", data_files(files[:2]))
    assert again.code == 0, again.err
    after = units(tmp_path / "out")
    assert {name: after[name] for name in before} == before  # a larger grid takes over what is there
    assert len(after) == len(before) + 1


@pytest.fixture
def too_many(monkeypatch):
    """A method that cannot be fitted with 500 neighbours or more."""
    real = NeighborMean.fit

    def fit(self, slices):
        if self.n_neighbors >= 500:
            raise MemoryError(f"no room for {self.n_neighbors}")
        return real(self, slices)

    monkeypatch.setattr(NeighborMean, "fit", fit)


def test_one_point_fails_and_the_others_go_on(cli, files, tmp_path, too_many):
    for _ in range(2):  # a second time too, for its cause may be gone
        done = cli("train", "-m", *JUDGED, "k=5,500,banana", data_files(files[:1]))
        assert done.code == 1
        assert "Traceback" not in done.err
        assert "note: method=neighbor_mean,size=small,k=banana cannot be built, the others go on: " in done.err
        assert re.search(
            r"error: method=neighbor_mean,size=small,k=500, region, random, seed 0: MemoryError: .*500", done.err
        )
        assert set(pd.read_csv(tmp_path / "out" / "table.csv")["k"]) == {5}
        failures = pd.read_csv(tmp_path / "out" / "failures.csv")
        assert sorted(failures["model"].str.rpartition("=")[2]) == ["500", "banana"]
        assert failures["reason"].notna().all()
        assert (tmp_path / "out" / "scaling.csv").is_file()


def test_a_choice_that_is_not_there_is_one_point(cli, files, tmp_path):
    done = cli("train", "-m", *JUDGED[:1], "method=neighbor_mean,nix", "k=5", *JUDGED[3:], data_files(files[:1]))
    assert done.code == 1
    assert re.search("error: method=nix,size=small,k=5: The settings cannot be used: .*nix", done.err)
    assert set(pd.read_csv(tmp_path / "out" / "table.csv")["method"]) == {"neighbor_mean"}


def test_where_every_point_fails_there_are_reasons_and_no_figures(cli, files, tmp_path, too_many):
    done = cli("train", "-m", *JUDGED, "k=500,600", data_files(files[:1]))
    assert done.code == 1
    assert done.err.count("error: ") == 2
    assert not (tmp_path / "out" / "scaling.csv").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("nix=1,2",), "cannot be used: .*nix"),
        (("method.nix=1",), "cannot be used: .*nix"),
        (("k=a",), "n_neighbors"),
        (("partition=tiles",), "'partition=tiles' changes nothing here, for nothing reads it"),
        (("trainer.lr=0.5,0.1",), "'trainer.lr' is varied, but changes nothing"),
        (("splits=[random],[blocks]",), r"varies the model only, but .*blocks.* has another 'splits'"),
        (("tasks=[nix]",), "no task called 'nix'"),
        (("draw.against=nix",), "draw.against=nix names no axis of this sweep; there are: method, size, k"),
        (("random_state=a,b",), "Seeds are whole numbers"),
        (("~method._target_",), "method must be a config with _target_"),
        (("+executor.nix=2",), "executor takes"),
        (("executor={_target_: nix.Cluster}",), "'nix.Cluster' cannot be made"),
    ],
)
def test_what_is_refused(refused, files, settings, message):
    said = refused("train", "-m", *JUDGED, "k=5", data_files(files[:1]), *settings)
    assert re.search(message, said), said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-m", *JUDGED, "k=5"), r"Say which slices to train and judge on: data.files=\[a.h5ad"),
        (("-m", *JUDGED[:-1], "k=5", "data.files=a.h5ad"), "Say where the results go: out=DIR"),
        (("-m", "experiment=stofm", "data.files=a.h5ad", "out=o"), "no setting has several values"),
        (("-m", "experiment=stofm", "trainer.lr=1,2", "data.files=a.h5ad"), "Say where the results go: out=DIR"),
        (("-m", "experiment=stofm", "trainer.lr=1,2", "out=a,b"), "A sweep has one out="),
        (("-m", "a.h5ad"), "'a.h5ad' is no setting"),
        (("experiment=neighbor_scaling", "data.files=a.h5ad", "out=o"), "is a sweep.*run it with -m"),
        (("experiment=stofm", "trainer.lr=1,2"), "add --multirun"),
        (("experiment=stofm", "out=o", "--workers", "2"), "--workers is for sweeps: add -m"),
        (("experiment=stofm", "out=o", "data.files=a.h5ad", "executor={_target_: a.B}"), "executor= .* add -m"),
    ],
)
def test_what_is_refused_at_once(refused, arguments, message):
    said = refused("train", *arguments)
    assert re.search(message, said), said


def test_slices_without_labels_are_told_what_to_say(refused, tmp_path):
    from stgraph.io.synthetic import synthetic_tissue

    [adata] = synthetic_tissue(n_cells=100, n_genes=60)
    adata.obs = adata.obs[["slice_id"]].copy()
    adata.write_h5ad(tmp_path / "bare.h5ad")
    said = refused("train", "-m", *JUDGED, "k=5,8", "data.files=bare.h5ad")
    assert "its slices have no labels 'domain'" in said
    assert "data.labels={domain: layer}" in said


def test_a_folder_of_others_is_left_alone(refused, files, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    assert "'out' holds something else, and" in refused("train", "-m", *JUDGED, "k=5,8", data_files(files[:1]))


def test_several_processes_of_torchrun_are_refused(refused, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "started once, not by torchrun" in refused("train", "-m", *JUDGED, "k=5,8")


def test_interrupted_it_goes_on(cli, files, tmp_path, monkeypatch):
    real, ran = run_module._run_unit, []

    def run_unit(job, unit, slices, model):
        if len(ran) == 1:
            raise KeyboardInterrupt
        ran.append(unit.model)
        real(job, unit, slices, model)

    command = ("train", "-m", *JUDGED, "k=5,8,12", data_files(files[:1]))
    monkeypatch.setattr(run_module, "_run_unit", run_unit)
    stopped = cli(*command)
    assert stopped.code == 130
    assert "judging: 1 of 3 done\ninterrupted: what is done stays; run the same command again" in stopped.err
    [first] = units(tmp_path / "out").items()
    ran.append("not to be interrupted again")
    assert cli(*command).code == 0
    assert len(ran) == 4
    assert len(set(ran)) == 4
    assert first in units(tmp_path / "out").items()


def test_any_executor_gives_the_same(cli, files, tmp_path):
    command = ["train", "-m", *JUDGED[:-1], "k=5,8", data_files(files[:2])]
    assert cli(*command, "out=alone").code == 0
    executor = "executor={_target_: concurrent.futures.ThreadPoolExecutor, max_workers: 2}"
    assert cli(*command, "out=together", executor).code == 0
    alone, together = (pd.read_csv(tmp_path / out / "table.csv") for out in ("alone", "together"))
    pd.testing.assert_frame_equal(numbers(together), numbers(alone))


@pytest.mark.slow
def test_processes_give_the_same(cli, files, tmp_path):
    command = ["train", "-m", *JUDGED[:-1], "k=5,8", data_files(files[:2])]
    assert cli(*command, "out=alone").code == 0
    assert cli(*command, "out=together", "--workers", "2").code == 0
    alone, together = (pd.read_csv(tmp_path / out / "table.csv") for out in ("alone", "together"))
    pd.testing.assert_frame_equal(numbers(together), numbers(alone))


@pytest.mark.slow
def test_a_cluster_of_dask_gives_the_same(cli, files, tmp_path):
    pytest.importorskip("distributed")
    (tmp_path / "mylab_cluster.py").write_text(
        "from distributed import Client\n"
        "def nodes(n):\n"
        "    return Client(n_workers=n, threads_per_worker=1, processes=False, dashboard_address=':0').get_executor()\n"
    )
    command = ["train", "-m", *JUDGED[:-1], "k=5,8", data_files(files[:2])]
    assert cli(*command, "out=alone").code == 0
    done = cli(*command, "out=together", "executor={_target_: mylab_cluster.nodes, n: 2}")
    assert done.code == 0, done.err
    alone, together = (pd.read_csv(tmp_path / out / "table.csv") for out in ("alone", "together"))
    pd.testing.assert_frame_equal(numbers(together), numbers(alone))


def test_any_model_of_ones_own(cli, files, tmp_path):
    """A network where stgraph.fit trains it, and a description in no need of training."""
    (tmp_path / "mylab_nets.py").write_text(
        "import numpy as np\n"
        "from stgraph.models.se2_transformer import SE2Transformer\n"
        "class Wide(SE2Transformer):\n"
        "    def __init__(self, in_channels, hidden_channels, num_layers, heads, ffn_channels):\n"
        "        super().__init__(in_channels, 2 * hidden_channels, num_layers, heads, ffn_channels)\n"
        "class Place:\n"
        "    def __init__(self, scale=1.0):\n"
        "        self.scale = scale\n"
        "    def fit(self, slices):\n"
        "        return self\n"
        "    def transform(self, adata):\n"
        "        return np.float32(self.scale * adata.obsm['spatial'])\n"
    )
    common = ["train", "-m", "experiment=neighbor_scaling_se2", *JUDGED[3:-1], data_files(files[:1]), "random_state=0"]
    net = [
        *("method=se2_knn,se2_radius", "model._target_=mylab_nets.Wide", "sizes.small.hidden_channels=8"),
        *("virtual_cells=none", "trainer.max_steps=1", "trainer.warmup_steps=1", "k=4"),
    ]
    done = cli(*common, *net, "out=net")
    assert done.code == 0, done.err
    table = pd.read_csv(tmp_path / "net" / "table.csv")
    assert set(table["method"]) == {"se2_knn", "se2_radius"}
    assert table.groupby("method")["num_parameters"].first().nunique() == 1  # edges have no weights
    own = ["method=neighbor_mean", "method._target_=mylab_nets.Place", "~method.encoder", "~method.n_neighbors"]
    done = cli(*common, *own, "~sweep.k", "draw.against=method.scale", "+method.scale=1.0,2.0", "out=own")
    assert done.code == 0, done.err
    assert set(pd.read_csv(tmp_path / "own" / "table.csv")["method.scale"]) == {1.0, 2.0}
    assert (tmp_path / "own" / "metric_method_scale.png").is_file()


def test_points_that_do_not_differ_are_one(files):
    settings = ["experiment=neighbor_scaling_se2", data_files(files[:1]), "out=o", "k=4,8", "size=small,large"]
    judged = read_judged(read_sweep("train", [*settings, "method=se2_knn,neighbor_mean", "random_state=3,4"]))
    assert {name for name in judged.grid.models if "mean" in name} == {
        "method=neighbor_mean,k=4",
        "method=neighbor_mean,k=8",
    }
    assert judged.grid.axes["method=neighbor_mean,k=4"] == {
        "method": "neighbor_mean",
        "size": None,
        "k": 4,
        "max_steps": None,
    }
    assert len(judged.points) == 6
    assert judged.grid.axes["method=se2_knn,size=large,k=8"]["max_steps"] == judged.settings["trainer"]["max_steps"]
    assert judged.grid.axes["pca"] == {"method": "pca"}
    assert judged.grid.seeds == (3, 4)
    net = judged.grid.models["method=se2_knn,size=large,k=8"]
    assert net["settings"]["model"]["num_layers"] == 4
    assert net["settings"]["builder"]["n_neighbors"] == 8
    assert net["settings"]["trainer"]["random_state"] == net["random_state"] == "${random_state}"


@pytest.mark.parametrize(
    ("experiment", "methods", "size"),
    [
        ("neighbor_scaling", "aido_tissue,aido_tissue_random,aido_tissue_copied,cell_graph_genes", "3m"),
        ("neighbor_scaling_se2", "se2_knn,se2_radius", "large"),
    ],
)
def test_all_methods_build(experiment, methods, size, files):
    settings = [f"experiment={experiment}", f"method={methods}", f"size={size}", data_files(files[:1]), "out=o", "k=8"]
    judged = read_judged(read_sweep("train", settings))
    assert not judged.failed
    assert len(judged.points) == methods.count(",") + 1
    assert all(judged.grid.axes[name]["k"] == 8 for name in judged.points)
    assert judged.grid.seeds == (0, 1, 2)
    if experiment == "neighbor_scaling":  # as many centres a step, whatever k is
        found = [judged.grid.models[name] for name in judged.points]
        assert {(model["max_cells"], model["max_tokens"]) for model in found} == {(32, None)}


@pytest.mark.parametrize("size", ["small", "3m", "60m"])
def test_sizes_are_those_of_aido_tissue(size):
    sizes = yaml.safe_load((config_dir() / "experiment" / "neighbor_scaling.yaml").read_text())["sizes"][size]
    whole = yaml.safe_load((config_dir() / "neighborhood_network" / f"aido_tissue_{size}.yaml").read_text())
    assert {name: whole[name] for name in sizes} == sizes


def test_what_would_run_is_shown(cli, files, tmp_path):
    shown = cli("train", "-m", "--show", *JUDGED, "k=5,banana", data_files(files[:1]))
    assert shown.code == 0, shown.err
    content = yaml.safe_load(shown.out)
    assert content["axes"]["k"] == ["5", "banana"] or content["axes"]["k"] == [5, "banana"]
    assert content["points"] == ["method=neighbor_mean,size=small,k=5"]
    assert list(content["cannot be built"]) == ["method=neighbor_mean,size=small,k=banana"]
    assert content["settings of the first point"]["k"] == 5
    assert "sweep" not in content["settings of the first point"]  # the axes say what is varied
    content = yaml.safe_load(cli("train", "--multirun", "--show", "experiment=stofm", "random_state=0,1", "out=o").out)
    assert content["points"] == ["random_state=0", "random_state=1"]
    assert list(tmp_path.iterdir()) == []


RECIPE = [
    *TINY,
    "stages.spatial=null",
    "stages.joint=null",
    "stages.adapt.trainer.max_steps=2",
    "stages.adapt.epochs=null",
]


def test_recipes_get_a_folder_each(cli, files, tmp_path):
    command = ["train", "-m", *RECIPE, data_files(files[:1]), "out=out", "model.heads=2,3", "random_state=0,1"]
    done = cli(*command)
    assert done.code == 1
    assert "Traceback" not in done.err
    assert done.err.count("error: model.heads=3,random_state=") == 2
    assert "2 of 4 points are trained" in done.err
    table = pd.read_csv(tmp_path / "out" / "sweep.csv").set_index("name")
    assert table["reason"].isna().tolist() == [True, True, False, False]
    assert table["adapt.loss"].notna().tolist()[:2] == [True, True]
    a, b = (embedding(tmp_path / "out" / f"model.heads=2,random_state={seed}" / "first.h5ad") for seed in (0, 1))
    assert not np.allclose(a, b)
    again = cli(*command)
    assert again.code == 1
    assert again.err.count("adapt: was done already") == 4  # heads are of the next part of a run


def test_folders_have_names_a_file_system_takes():
    from stgraph.cli.sweep_staged import _folders

    named = _folders(["a=x/y", "a=x?y", "b=" + "long" * 50, "c=1.5,d=[1, 2]", "e=ok"])
    assert len(set(named.values())) == 5
    assert named["e=ok"] == "e=ok"
    assert all(re.fullmatch(r"[\w.,=+-]{1,120}", folder) for folder in named.values())


def test_a_point_that_would_fail_when_it_trains_is_no_point(files):
    settings = ["experiment=neighbor_scaling_se2", data_files(files[:1]), "out=o", "k=0,4", "size=small"]
    judged = read_judged(read_sweep("train", [*settings, "method=se2_knn", "random_state=0"]))
    assert judged.points == ("method=se2_knn,size=small,k=4",)
    assert "n_neighbors" in judged.failed["method=se2_knn,size=small,k=0"]


def test_a_run_and_a_sweep_are_told_apart(refused, files, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "settings.yaml").touch()
    said = refused("train", "-m", *JUDGED, "k=5,8", data_files(files[:1]))
    assert "holds one run of stgraph train, and the results of a sweep of stgraph train (-m) do not go there" in said
    (tmp_path / "out" / "settings.yaml").rename(tmp_path / "out" / "sweep.yaml")
    said = refused("train", *RECIPE, data_files(files[:1]), "out=out")
    assert "holds a sweep of stgraph train (-m), and the results of one run of stgraph train do not go there" in said
