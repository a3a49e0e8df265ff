import pandas as pd
import pytest
import yaml
from sklearn.neural_network import MLPClassifier

import stgraph
from stgraph._config import instantiate, to_config
from stgraph.cli.compose import config_dir
from stgraph.errors import InputError
from stgraph.preprocess.encoder import LogPCA
from stgraph.tasks.annotation import Annotation
from stgraph.tasks.shifts import Thinned
from stgraph.tasks.splits import LeaveOneSliceOut, RandomCells
from stgraph.tasks.transfer import LabelTransfer


@pytest.fixture(scope="module")
def study():
    return dict(zip("ab", stgraph.synthetic_tissue(n_cells=250, n_genes=60, n_slices=2), strict=True))


def test_regions_and_types_are_learnt(study):
    for key in ("domain", "cell_type"):
        result = Annotation(key, name="mine").run(study, LogPCA(n_components=10), split=LeaveOneSliceOut())
        scores = result.table.set_index(["slice", "metric"])["value"]
        assert scores["a", "auroc"] > 0.6
        assert set(result.table["task"]) == {"mine"}
        assert set(result.table["target"]) == {key}
        for name, adata in result.adatas.items():
            right = (adata.obs[f"stgraph_predicted_{key}"].astype(str) == adata.obs[key].astype(str)).mean()
            assert right == pytest.approx(scores[name, "accuracy"])


def test_a_shift_and_a_perceptron(study):
    head = [MLPClassifier((8,), max_iter=5, random_state=0)]
    result = Annotation("domain", head).run(study, LogPCA(n_components=5), split=RandomCells(), shift=Thinned(0.5))
    assert set(result.table["shift"]) == {"thinned to 50%"}
    assert "MLPClassifier" in result.notes[0]


def test_a_missing_column_is_said(study):
    with pytest.raises(InputError, match=r"obs\['nix'\] has 0 classes"):
        Annotation("nix").run(study, LogPCA(), split=RandomCells())


@pytest.mark.parametrize("name", ["region", "cell_type", "niche", "region_mlp", "few_shot", "label_transfer"])
def test_configs_say_what_the_classes_do(name):
    config = yaml.safe_load((config_dir() / "task" / f"{name}.yaml").read_text())
    task = instantiate(config)
    assert task.name == name
    assert to_config(instantiate(to_config(task))) == to_config(task)


@pytest.mark.parametrize("group", ["split", "shift"])
def test_configs_of_splits_and_shifts_are_the_defaults(group):
    for path in sorted((config_dir() / group).glob("*.yaml")):
        config = yaml.safe_load(path.read_text())
        built = instantiate(config)
        assert to_config(built) == config
        if path.stem not in ("donor", "given"):
            assert built == type(built)()


def test_transfer_chooses_nothing(study):
    result = LabelTransfer("domain").run(study, LogPCA(n_components=8), split=LeaveOneSliceOut())
    assert all("the only head" in note for note in result.notes)
    assert "LinearDiscriminantAnalysis" in result.notes[0]
    same = LabelTransfer("domain").run(study, LogPCA(n_components=8), split=LeaveOneSliceOut())
    pd.testing.assert_frame_equal(result.table, same.table)
