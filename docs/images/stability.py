"""Draw docs/images/stability.png: how stable each number of domains is."""

from pathlib import Path

import stgraph
from stgraph.baselines import NeighborPCA
from stgraph.plot.stability import stability_curve

HERE = Path(__file__).parent


def main() -> None:
    """Draw the curve of one slice with seven planted domains."""
    tissue = stgraph.synthetic_tissue(n_cells=1500, n_genes=100)[0]
    tissue.obsm["X_neighbors"] = NeighborPCA().fit([tissue]).transform(tissue)
    found = stgraph.suggest_n_domains({"tissue": tissue}, use_rep="X_neighbors", candidates=range(2, 13))
    figure = stability_curve(found.table, suggested=found.suggested, annotated=7)
    figure.savefig(HERE / "stability.png", dpi=100)


if __name__ == "__main__":
    main()
