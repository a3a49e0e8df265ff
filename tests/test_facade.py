import ast
import subprocess
import sys

import pytest

import stgraph


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_is_light():
    heavy = run("import sys, stgraph; print([m for m in ('torch', 'numpy', 'anndata', 'pandas') if m in sys.modules])")
    assert ast.literal_eval(heavy) == []


def test_upstream_runs_without_torch():
    code = (
        "import sys, stgraph\n"
        "graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=120, n_genes=60)[0])\n"
        "from stgraph.partition.metis import Metis\n"
        "print(Metis(part_size=60)(graph).num_parts, 'torch' in sys.modules)"
    )
    assert run(code).strip() == "2 False"


def test_every_public_name_loads():
    for name in stgraph.__all__:
        assert getattr(stgraph, name) is not None
    assert set(stgraph.__all__) <= set(dir(stgraph))


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = stgraph.nothing
