"""Strong simple descriptions of cells, in closed form: what every learned model stands beside."""

from stgraph.baselines.banksy import Banksy
from stgraph.baselines.base import SliceEncoder
from stgraph.baselines.calibrated import Calibrated
from stgraph.baselines.constant import Constant
from stgraph.baselines.joined import Joined
from stgraph.baselines.neighbor_mean import NeighborMean, NeighborPCA, neighbor_mean
from stgraph.baselines.reduced_rank import ReducedRankNeighbors
from stgraph.baselines.smooth_gene_means import SmoothGeneMeans
from stgraph.baselines.smooth_genes import SmoothGenes
from stgraph.baselines.thinned_copies import WithThinnedCopies
from stgraph.preprocess.gene_pca import GenePCA

__all__ = [
    "Banksy",
    "Constant",
    "Calibrated",
    "GenePCA",
    "Joined",
    "NeighborMean",
    "NeighborPCA",
    "ReducedRankNeighbors",
    "SliceEncoder",
    "SmoothGeneMeans",
    "SmoothGenes",
    "WithThinnedCopies",
    "neighbor_mean",
]
