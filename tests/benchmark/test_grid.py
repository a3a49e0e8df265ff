import pytest
import yaml

from stgraph._config import TARGET, config_dir, instantiate
from stgraph.benchmark.choices import GROUPS, choices, chosen
from stgraph.benchmark.grid import Grid
from stgraph.benchmark.run import seeded
from stgraph.benchmark.study import Study
from stgraph.errors import InputError

CHOICES = [(kind, name) for kind in GROUPS for name in choices(kind)]


@pytest.mark.parametrize(("kind", "name"), CHOICES)
def test_every_choice_builds(kind, name):
    config = chosen(kind, [name])[name]
    assert type(instantiate(seeded(config, 3))).__name__ == config[TARGET].rpartition(".")[2]


def test_every_config_is_a_choice_of_fit_or_of_a_benchmark():
    groups = {next(iter(entry)) for entry in yaml.safe_load((config_dir() / "fit.yaml").read_text())["defaults"][:-1]}
    groups |= {folder for folders in GROUPS.values() for folder in folders}
    groups |= {"experiment", "method", "neighborhood_network"}  # of stgraph train
    assert {path.name for path in config_dir().iterdir() if path.is_dir()} == groups


def test_names_of_models_are_told_apart():
    names = [path.stem for folder in GROUPS["model"] for path in (config_dir() / folder).glob("*.yaml")]
    assert len(names) == len(set(names))


def test_the_seed_reaches_nested_parts_but_not_what_was_given():
    config = {TARGET: "stgraph.preprocess.encoder.LogPCA", "random_state": 7}
    assert seeded(config, 3)["random_state"] == 7
    assert instantiate(seeded(chosen("model", ["neighbor_pca"])["neighbor_pca"], 3)).encoder.random_state == 3


def test_units(folder, study, grid):
    units, notes = grid.units(study, study.load(folder))
    ways = {(unit.split, unit.shift) for unit in units}
    assert ways == {("random", ""), ("slice", ""), ("slice", "thinned")}  # no shift where single cells are judged
    assert len(units) == 2 * 3 == len({unit.key for unit in units})
    assert notes == []


def test_keys_change_with_what_decides_the_result(folder, study, grid):
    def keys(**changes):
        given = {"tasks": ["region"], "models": ["pca"], "splits": ["blocks"], "root": folder} | changes
        return {unit.key for unit in Grid.of([study], **given).units(study, study.load(folder))[0]}

    base = keys()
    assert keys() == base
    assert not base & keys(seeds=(1,))
    assert not base & keys(splits={"blocks": {**chosen("split", ["blocks"])["blocks"], "buffer": 1.0}})
    assert not base & keys(models={"pca": {**chosen("model", ["pca"])["pca"], "n_components": 3}})
    more = keys(models=["pca", "majority"])  # what was done before stays done
    assert base < more


def test_tasks_without_labels_and_splits_without_slices(folder):
    study = Study("made", ["a.h5ad"])
    grid = Grid.of([study], tasks=["region", "density"], models=["pca"], splits=["blocks", "slice"], root=folder)
    units, notes = grid.units(study, study.load(folder))
    assert {(unit.task, unit.split) for unit in units} == {("density", "blocks")}
    assert notes == [
        "made: region does not run, for its slices have no labels 'domain': name their column as in labels: "
        "{domain: COLUMN}",
        "made: density does not run with split 'slice', for it has one slice",
    ]


def test_a_panel_that_is_small_already_is_not_cut(folder, study):
    grid = Grid.of([study], tasks=["region"], models=["pca"], splits=["slice"], shifts=["shared_genes"], root=folder)
    units, notes = grid.units(study, study.load(folder))
    assert [unit.shift for unit in units] == [""]
    assert notes == ["made: region does not run with shift 'shared_genes', which would leave its slices as they are"]


def test_slices_of_a_donor_are_left_out_together(folder, study):
    donors = Study("made", study.files, labels=study.labels, group="layer")
    grid = Grid.of([donors], tasks=["region"], models=["pca"], splits=["blocks", "slice"], root=folder)
    assert grid.split_config(donors, "slice")["group_key"] == "group"
    assert "group_key" not in grid.split_config(donors, "blocks")
    assert grid.split_config(study, "slice")["group_key"] is None
    assert grid.split_config(donors, "") is None


def test_a_study_that_knows_no_donors_is_not_split_by_them(folder, study):
    grid = Grid.of([study], tasks=["region"], models=["pca"], splits=["donor"], root=folder)
    units, notes = grid.units(study, study.load(folder))
    assert units == []
    [note] = notes
    assert "with split 'donor', for the study does not say the group (donor, animal) of its slices" in note


def test_methods_that_unmix_run_where_there_is_something_to_unmix(folder):
    study = Study("made", ["a.h5ad"], labels={"domain": "layer", "cell_type": "cell_type"})
    tasks, models = ["cell_type", "deconvolution"], ["pca", "signature_poisson"]
    units, _ = Grid.of([study], tasks=tasks, models=models, splits=["blocks"], root=folder).units(
        study, study.load(folder)
    )
    assert {(unit.task, unit.model) for unit in units} == {
        ("cell_type", "pca"),
        ("deconvolution", "pca"),
        ("deconvolution", "signature_poisson"),
    }


def test_reading(tmp_path, folder):
    content = {
        "data": str(folder),
        "studies": {"made": {"files": ["a.h5ad"], "labels": {"domain": "layer"}, "tasks": ["region"]}},
        "tasks": ["region", "density"],
        "models": {"pca": None, "mine": {TARGET: "stgraph.preprocess.encoder.LogPCA", "n_components": 3}},
        "splits": ["blocks"],
        "seeds": [0, 1],
    }
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(content))
    grid = Grid.read(path, models=["majority"])
    [study] = grid.studies
    units, _ = grid.units(study, study.load(grid.root))
    assert {(unit.task, unit.model, unit.seed) for unit in units} == {
        ("region", "majority", 0),
        ("region", "majority", 1),
    }
    assert set(Grid.read(path).models) == {"pca", "mine"}
    narrowed = Grid.read(path, tasks=["density"], models=["majority"])
    assert narrowed.studies[0].tasks == []
    again, _ = Grid.read(path, tasks=["region"], models=["majority"]).units(study, study.load(grid.root))
    assert [unit.key for unit in again] == [unit.key for unit in units]
    assert Grid.read(path, models=["mine"]).models["mine"]["n_components"] == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": ["nothing"]}, "no model called 'nothing'; there are: .*pca"),
        ({"models": {"mine": 3}}, "must be a config with _target_"),
        ({"models": []}, "at least one task, one model"),
        ({"studies": {}}, "needs studies"),
        ({"studies": {"a": "a.h5ad"}}, "must say its files"),
        ({"studies": {"a": {"files": ["a.h5ad"], "tasks": ["niche"]}}}, "asks for the tasks .*niche"),
        ({"seeds": [-1]}, "Seeds are whole numbers"),
        ({"other": 1}, "with the keys data, studies"),
    ],
)
def test_bad_grids(tmp_path, change, message):
    content = {"studies": {"a": {"files": ["a.h5ad"]}}, "tasks": ["region"], "models": ["pca"], "splits": ["blocks"]}
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(content | change))
    with pytest.raises(InputError, match=message):
        Grid.read(path)


def test_a_file_that_is_no_yaml(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text("a: [")
    with pytest.raises(InputError, match="cannot be read"):
        Grid.read(path)
