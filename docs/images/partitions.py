"""Draw docs/images/partitions.png: five ways to cut one slice."""

from pathlib import Path

from matplotlib.figure import Figure

import stgraph
from stgraph.partition.communities import Communities
from stgraph.partition.metis import Metis
from stgraph.partition.quality import partition_quality
from stgraph.partition.space_filling import SpaceFillingCurve
from stgraph.partition.spatial import CoordinateBisection
from stgraph.partition.tiles import SquareTiles
from stgraph.plot.partition import plot_partition

HERE = Path(__file__).parent
SIZE = 150


def main() -> None:
    """Draw the parts, and a part with its halo."""
    graph = stgraph.build_graph(stgraph.synthetic_tissue(n_cells=2500, n_genes=80)[0], virtual_cells=None)
    figure = Figure(figsize=(13, 6.4), layout="constrained")
    panels = figure.subplots(2, 3).ravel()
    for partitioner, ax in zip(
        (Metis, CoordinateBisection, SpaceFillingCurve, SquareTiles, Communities), panels, strict=False
    ):
        partition = partitioner(part_size=SIZE)(graph)
        quality = partition_quality(graph, partition)
        sizes = f"{quality.min_size} to {quality.max_size} cells" if quality.min_size < quality.max_size else "equal"
        plot_partition(
            graph,
            partition,
            title=f"{partitioner.__name__}\n{sizes}, {100 * quality.cut_share:.0f} % of edges cut",
            ax=ax,
        )
    partition = Metis(SIZE)(graph)
    plot_partition(graph, partition, part=4, num_hops=2, title="Metis\none part and two hops of halo", ax=panels[-1])
    figure.savefig(HERE / "partitions.png", dpi=80)


if __name__ == "__main__":
    main()
