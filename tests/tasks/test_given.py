import pytest

import stgraph
from stgraph.baselines import NeighborPCA
from stgraph.errors import InputError
from stgraph.tasks.annotation import Annotation
from stgraph.tasks.clustering import Clustering
from stgraph.tasks.composition import NeighborhoodComposition
from stgraph.tasks.deconvolution import Deconvolution
from stgraph.tasks.density import CellDensity
from stgraph.tasks.few_shot import FewShot
from stgraph.tasks.imputation import Imputation
from stgraph.tasks.splits import SpatialBlocks
from stgraph.tasks.transfer import LabelTransfer

TASKS = [
    Annotation("domain"),
    Clustering("domain"),
    NeighborhoodComposition(mean_neighbors=10),
    Deconvolution("cell_type"),
    CellDensity(),
    FewShot("domain"),
    Imputation(),
    LabelTransfer("domain"),
]


@pytest.fixture(scope="module")
def tissue():
    return stgraph.synthetic_tissue(n_cells=200, n_genes=60)[0]


def run(task, slices, *, model=None, split=None):
    arguments = {} if isinstance(task, Clustering) else {"split": SpatialBlocks() if split is None else split}
    return task.run(slices, NeighborPCA() if model is None else model, **arguments)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: type(task).__name__)
def test_every_task_says_what_it_takes(task, tissue):
    with pytest.raises(InputError, match=r"slices by name, not one AnnData: give slices by name, as \{'a': adata\}"):
        run(task, tissue)
    with pytest.raises(InputError, match="slices by name, not a list"):
        run(task, [tissue])
    with pytest.raises(InputError, match="a slice at least"):
        run(task, {})
    with pytest.raises(InputError, match=r"The slice 'a' is a str, not an AnnData: read it with stgraph\.read"):
        run(task, {"a": "slice.h5ad"})
    for model in (NeighborPCA, "pca"):
        with pytest.raises(InputError, match=r"A model must be an object .* not (the class NeighborPCA|'pca')"):
            run(task, {"a": tissue}, model=model)
    if not isinstance(task, Clustering):
        for split in (SpatialBlocks, "blocks"):
            with pytest.raises(InputError, match=r"A split must be an object such as .* not (the class|'blocks')"):
                run(task, {"a": tissue}, split=split)
