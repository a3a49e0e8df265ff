"""The command line: in this process, in an empty folder; and one run in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import stgraph
from stgraph.cli.main import main

SMALL = ["--steps", "3", "--set", "encoder.n_components=8", "--set", "domains.n_init=1"]


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Three slices on disk; nobody knows the unit of the second."""
    folder = tmp_path_factory.mktemp("slices")
    first, second, third = stgraph.synthetic_tissue(n_cells=200, n_genes=60, n_slices=3)
    del second.uns["stgraph"]
    paths = [folder / f"{name}.h5ad" for name in ("first", "second", "third")]
    for path, adata in zip(paths, (first, second, third), strict=True):
        del adata.obs["slice_id"]
        adata.write_h5ad(path)
    return paths


UMAP = """
class UMAP:
    def __init__(self, **_): pass
    def fit_transform(self, x): return x[:, :2]
"""


def fit_in_its_own_process(files, out, environment):
    command = [Path(sys.executable).with_name("stgraph"), "fit", *files[:2], "--out", out, *SMALL]
    process = subprocess.run(
        [*map(str, command), "--score-against", "domain"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    return SimpleNamespace(out=out, process=process)


@pytest.fixture(scope="session")
def finished(files, tmp_path_factory):
    """What ``stgraph fit`` leaves when run as a person runs it, but for UMAP, which takes half a minute to compile."""
    stand_in = tmp_path_factory.mktemp("stand_in")
    (stand_in / "umap.py").write_text(UMAP)
    path = os.pathsep.join([str(stand_in), *filter(None, [os.environ.get("PYTHONPATH")])])
    return fit_in_its_own_process(files, tmp_path_factory.mktemp("runs") / "out", {"PYTHONPATH": path})


@pytest.fixture(scope="session")
def finished_with_umap(files, tmp_path_factory):
    """The same with the real UMAP."""
    return fit_in_its_own_process(files, tmp_path_factory.mktemp("runs") / "out", {})


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path):
    """Run the command line in an empty folder: ``cli("fit", ...)`` gives its exit code and what it said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    # UMAP takes long to compile; a slow test runs it.
    monkeypatch.setattr("stgraph.plot.report.umap_coordinates", lambda x, **_: (x[:, :2], np.arange(len(x))))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["stgraph", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        said = capsys.readouterr()
        return SimpleNamespace(code=stopped.value.code or 0, out=said.out, err=said.err)

    return run


@pytest.fixture
def refused(cli, tmp_path):
    """Run what must be refused: one sentence, exit code 2, and every file as it was; gives the sentence."""

    def run(*arguments):
        before = snapshot(tmp_path)
        result = cli(*arguments)
        assert result.code == 2, result.err
        assert "Traceback" not in result.err
        errors = [line for line in result.err.splitlines() if line.startswith("error:")]
        assert errors == result.err.splitlines()[-1:], result.err
        assert snapshot(tmp_path) == before
        return errors[0]

    return run


def snapshot(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}
