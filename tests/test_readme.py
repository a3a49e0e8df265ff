import re
from pathlib import Path

import pytest

import stgraph

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("experiments/**/*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_the_python_of_the_first_screen_runs(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    for name, adata in zip("abc", stgraph.synthetic_tissue(n_cells=150, n_genes=60, n_slices=3), strict=True):
        del adata.obs["slice_id"]
        adata.write_h5ad(tmp_path / f"{name}.h5ad")
    monkeypatch.chdir(tmp_path)
    scope = {}
    exec(code, scope)
    assert "X_stgraph" in scope["new"].obsm
    assert (tmp_path / "model" / "config.json").exists()


def test_make_targets_of_the_readme_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)\b", (ROOT / "README.md").read_text())) <= targets
