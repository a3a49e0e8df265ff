"""What every test may ask for."""

import gc
import os
from pathlib import Path

# The threads of numba (in scanpy and umap) become those of torch and scikit-learn, which wait for each other ten times
# as long as they work where each test process has one core. Numba reads this once, when it is imported.
os.environ.setdefault("NUMBA_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", str(os.cpu_count() or 1)))

import pytest
from hypothesis import settings

import stgraph
from stgraph.training.loop import Trainer

# How long an example takes is the business of the machine; timed assertions do not belong in tests.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

REPOSITORY = Path(__file__).parent.parent
DATA = Path(os.environ.get("STGRAPH_DATA", REPOSITORY.parent / "shared" / "data"))


def pytest_collection_modifyitems(config, items):
    if DATA.is_dir():
        return
    skip = pytest.mark.skip(reason=f"real tissue is not at {DATA}: set STGRAPH_DATA to its folder")
    for item in items:
        if "real" in item.keywords:
            item.add_marker(skip)


def pytest_collection_finish():
    """What is imported by now stays: else a full collection of garbage looks through all of it, for half a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def data_dir():
    """Folder of real tissue; only for tests marked ``real``."""
    return DATA


@pytest.fixture(scope="session")
def _two_slices():
    return stgraph.synthetic_tissue(n_cells=320, n_genes=80, n_slices=2)


@pytest.fixture
def slices(_two_slices):
    """Two small slices; a copy for each test."""
    return [adata.copy() for adata in _two_slices]


@pytest.fixture
def tissue(slices):
    """One small slice."""
    return slices[0]


@pytest.fixture(scope="session")
def fitted(_two_slices):
    """The main job on two small slices, a few steps."""
    return stgraph.fit(
        [adata.copy() for adata in _two_slices],
        trainer=Trainer(max_steps=12),
        partitioner={"_target_": "stgraph.partition.metis.Metis", "part_size": 150},
        progress=False,
    )
