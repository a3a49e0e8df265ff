"""Draw docs/images/demo.png from what `make demo` made: run it from the repository after `make demo`."""

from pathlib import Path

import anndata as ad
from matplotlib.figure import Figure

from stgraph.plot.palette import label_colors, match_colors
from stgraph.plot.spatial import domain_map

HERE = Path(__file__).parent


def main() -> None:
    """Draw each slice twice."""
    slices = [ad.read_h5ad(path) for path in sorted((HERE.parents[1] / "demo").glob("*.h5ad"))]
    domains = [adata.obs["stgraph_domain"].astype(str).to_numpy() for adata in slices]
    planted = [adata.obs["domain"].astype(str).to_numpy() for adata in slices]
    colors = label_colors([label for labels in planted for label in labels])
    paired = match_colors(
        [label for labels in domains for label in labels], [label for labels in planted for label in labels], colors
    )
    figure = Figure(figsize=(11, 2.9), layout="constrained")
    panels = figure.subplots(1, 4)
    for i, adata in enumerate(slices):
        pos = adata.obsm["spatial"]
        domain_map(
            pos, planted[i], colors=colors, title=f"slice {i + 1}: planted", unit="um", ax=panels[2 * i], legend=False
        )
        domain_map(pos, domains[i], colors=paired, title="found", unit="um", ax=panels[2 * i + 1], legend=False)
    figure.savefig(HERE / "demo.png", dpi=90)


if __name__ == "__main__":
    main()
