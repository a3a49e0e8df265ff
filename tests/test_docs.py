"""The pages run, block after block, as a reader would run them."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stgraph.cli.main import main

DOCS = Path(__file__).parent.parent / "docs"
PAGES = [page for page in sorted([*DOCS.glob("*.md"), *DOCS.glob("how-to/*.md")]) if "```python" in page.read_text()]


def test_there_are_pages():
    assert {page.name for page in PAGES} >= {"graphs.md", "own-layer.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    scope = {"__name__": "page"}
    how_to = page.parent.name == "how-to"
    try:
        for language, code in re.findall(r"```(python|sh)\n(.*?)```", page.read_text(), flags=re.DOTALL):
            file = re.match(r"# (\w+\.py)\n", code)
            if language == "sh":
                for line in code.splitlines() if how_to else ():
                    run_line(shlex.split(line), monkeypatch)
            elif file is None:
                exec(code, scope)
            else:
                (tmp_path / file[1]).write_text(code)
    finally:
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
                del sys.modules[name]


def run_line(argv, monkeypatch):
    """One line of a shell: our own command in this process, others in their own."""
    if argv[0] == "pytest":
        environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
        command = [sys.executable, "-m", *argv, "-q", "-p", "no:cacheprovider"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return
    assert argv[0] == "stgraph"
    # UMAP takes long to compile.
    monkeypatch.setattr("stgraph.plot.report.umap_coordinates", lambda x, **_: (x[:, :2], np.arange(len(x))))
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
