from types import SimpleNamespace

import pytest

import stgraph
from stgraph.benchmark.grid import Grid
from stgraph.benchmark.run import run_benchmark
from stgraph.benchmark.study import Study

SMALL = {"_target_": "stgraph.preprocess.encoder.LogPCA", "n_components": 6}
SIMPLE = {"_target_": "stgraph.baselines.neighbor_mean.NeighborMean", "encoder": SMALL, "n_neighbors": 20}
TASKS = {"region": {"_target_": "stgraph.tasks.annotation.Annotation", "key": "domain", "name": "region", "n_draws": 5}}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Two small slices of one study, as files."""
    folder = tmp_path_factory.mktemp("study")
    for adata, name in zip(stgraph.synthetic_tissue(n_cells=500, n_genes=60, n_slices=2), "ab", strict=True):
        adata.obs["layer"] = adata.obs.pop("domain")
        adata.write_h5ad(folder / f"{name}.h5ad")
    return folder


@pytest.fixture(scope="session")
def study():
    return Study("made", ["a.h5ad", "b.h5ad"], labels={"domain": "layer"})


@pytest.fixture(scope="session")
def grid(folder, study):
    models = {"small": SIMPLE, "majority": None}
    splits = ["random", "slice"]
    return Grid.of([study], tasks=TASKS, models=models, splits=splits, shifts=["thinned"], root=folder)


@pytest.fixture(scope="session")
def finished(grid, tmp_path_factory):
    """The grid, run once: the outcome, what was written, and what was told on the way. To be looked at only."""
    out, told = tmp_path_factory.mktemp("finished"), []
    outcome = run_benchmark(grid, out, progress=lambda stage, done, total: told.append((stage, done, total)))
    return SimpleNamespace(outcome=outcome, out=out, told=told)
