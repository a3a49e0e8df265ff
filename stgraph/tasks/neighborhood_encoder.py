"""A network that reads cells with their neighbours as a part of a run: slices to embeddings."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray

from stgraph import _keys
from stgraph._config import TARGET, import_class, instantiate
from stgraph.data.depth_values import CellDepth, DepthValues
from stgraph.data.neighborhood_sequences import NeighborhoodSequences
from stgraph.errors import InputError, StgraphWarning
from stgraph.graph.arguments import check_whole
from stgraph.graph.neighbor_choice import NearestCells, NeighborChoice
from stgraph.graph.spatial_order import spatial_order
from stgraph.models.aido_tissue_release import load_aido_tissue
from stgraph.models.neighborhood_network import NeighborhoodNetwork
from stgraph.objectives.base import Objective, WeightedSum
from stgraph.objectives.masked_columns import MaskedColumns
from stgraph.preprocess.expressed_genes import expressed_genes
from stgraph.preprocess.gene_list import GeneList
from stgraph.preprocess.gene_values import slice_name
from stgraph.preprocess.orthologs import Orthologs
from stgraph.tasks.center_batches import CenterBatches, RandomCenters
from stgraph.tasks.embed_neighborhoods import embed_neighborhoods
from stgraph.tasks.network_state import network_state, read_network_state
from stgraph.training.batches import SampledBatches
from stgraph.training.loop import Trainer
from stgraph.training.untrained import Untrained

_LOG = logging.getLogger(__name__)

_GENES = "genes."
"""What the arrays of the weights and of the gene list are called by in the state, before their own names."""

_AIDO = "stgraph.models.aido_tissue.AIDOTissue"
_REFERENCE = "stgraph.models.aido_tissue_reference.AIDOTissueReference"


def _quick() -> Trainer:
    return Trainer(max_steps=300, lr=1e-3, betas=(0.9, 0.95))


def _small() -> dict[str, Any]:
    # configs/neighborhood_network/aido_tissue_small.yaml
    sizes = {"hidden_channels": 64, "num_layers": 2, "ffn_channels": 128, "num_bins": 32}
    decoder = {"decoder_channels": 64, "decoder_layers": 1, "decoder_ffn_channels": 128, "decoder_zeros": 64}
    return {TARGET: _AIDO, **sizes, **decoder}


@dataclass
class NeighborhoodEncoder:
    """Embeddings of cells among their neighbours, gene by gene: AIDO.Tissue, or another network that reads the same.

    A `stgraph.baselines.base.SliceEncoder`: tasks, the benchmark and `stgraph train` take it as they take simple ones.
    The embedding of a cell depends on its counts and those of its neighbours, and on nothing else of the slice, if
    ``neighbors`` are the nearest or those of a graph and ``depth`` makes values of each cell alone. Neighbours that are
    drawn (`stgraph.graph.neighbor_choice.RandomCells`, `stgraph.graph.copied_center.CopiedCenter`) depend on the order
    and number of cells, and values of a `stgraph.data.depth_values.BatchDepth` on those in the same batch.

    The default is what is published, at a small size, and on one slice simple encoders are far better. A linear
    classifier on osmFISH (blocks of tissue held out, macro F1 of regions and of cell types, one seed) reached .39 and
    .69 on `stgraph.preprocess.encoder.LogPCA` of 50 components, and .69 and .16 on means of 20 over neighbours. On this
    with 3 neighbours it reached .32 and .28 as drawn, and after 600 steps of masked columns .32 and .21: no loss reads
    the embedding. Where it has to tell hidden genes by itself
    (`stgraph.objectives.columns_from_center.ColumnsFromCenter`), .39 and .47, and with 8 neighbours .43 and .46; beside
    masked columns, .40 and .45, and .31 and .30 if it is the mean over tokens instead of the maximum. The recipe
    ``configs/encoder/aido_tissue_small.yaml`` does so, with values scaled to 200 counts a cell, and depth tokens that
    tell the depth.

    Parameters
    ----------
    model
        Config of a `stgraph.models.neighborhood_network.NeighborhoodNetwork` but ``num_genes``, which is known.
    weights
        Folder or file of published weights of AIDO.Tissue (`stgraph.models.aido_tissue_release`), which need their
        ``gene_list``; what ``model`` says of sizes must be theirs. None: weights are drawn.
    neighbors
        Which cells are read with a cell: `stgraph.graph.neighbor_choice`.
    depth
        What makes values of counts.
    trainer
        How the network is trained in `fit`. None: not at all, for `stgraph train`. A
        `stgraph.training.untrained.Untrained` leaves it as it was drawn, for comparison.
    objectives
        What it is trained to do.
    batching
        Which cells are in one batch in training: `stgraph.tasks.center_batches`.
    max_cells
        Most centres of a batch in training.
    max_tokens
        Most tokens of a batch, of all cells of all neighbourhoods, in training and in describing; a single
        neighbourhood may have more. A warning says if most steps have fewer than ``max_cells`` centres for it. None: so
        many that it never is so, as for comparing numbers of neighbours at the same number of centres a step.
    gene_list, ensembl_ids
        File of the genes in the order that the network numbers them in, as `GeneList.read` takes it, and of their
        Ensembl ids. None: all genes of the slices to fit.
    orthologs
        File of a table of orthologs, for slices of another species than the gene list.
    max_unknown
        Greatest share of the genes of a slice that may be missing in the gene list.
    random_state
        Seed of the weights that are drawn. The trainer has its own.

    Attributes
    ----------
    genes
        Names of the genes, once fitted.
    network
        Once fitted. It may be trained in place: ``transform`` and ``state`` follow.
    history
        One record for each step of training.

    Raises
    ------
    InputError
        If an argument is out of range.

    References
    ----------
    GenBio AI. AIDO.Tissue: spatial cell-guided pretraining for scalable spatial transcriptomics foundation model, 2025.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.graph.neighbor_choice import NearestCells
    >>> from stgraph.tasks.neighborhood_encoder import NeighborhoodEncoder
    >>> from stgraph.training.loop import Trainer
    >>> tissue = stgraph.synthetic_tissue(n_cells=100, n_genes=60)
    >>> encoder = NeighborhoodEncoder(neighbors=NearestCells(2), trainer=Trainer(max_steps=1), max_cells=4)
    >>> encoder.fit(tissue).transform(tissue[0]).shape
    (100, 64)
    """

    model: Mapping[str, Any] = field(default_factory=_small)
    weights: str | None = None
    neighbors: NeighborChoice = field(default_factory=NearestCells)
    depth: DepthValues = field(default_factory=CellDepth)
    trainer: Trainer | Untrained | None = field(default_factory=_quick)
    objectives: Sequence[Objective] = field(default_factory=lambda: (MaskedColumns(),))
    batching: CenterBatches = field(default_factory=RandomCenters)
    max_cells: int = 32
    max_tokens: int | None = None
    gene_list: str | None = None
    ensembl_ids: str | None = None
    orthologs: str | None = None
    max_unknown: float = 0.5
    random_state: int = 0
    genes: list[str] = field(default_factory=list, init=False, repr=False)
    history: list[dict[str, float]] = field(default_factory=list, init=False, repr=False, compare=False)
    network: NeighborhoodNetwork = field(init=False, repr=False, compare=False)
    _list: GeneList | None = field(default=None, init=False, repr=False, compare=False)
    _orthologs: Orthologs | None = field(default=None, init=False, repr=False, compare=False)

    # Built anew for each fit, with the number of genes.
    _as_configs_: ClassVar = ("model",)

    def __post_init__(self) -> None:
        check_whole(self, "max_cells")
        if self.max_tokens is not None:
            check_whole(self, "max_tokens")
        check_whole(self, "random_state", least=0)
        if not 0 <= self.max_unknown <= 1:
            raise InputError(f"NeighborhoodEncoder needs max_unknown from 0 to 1, not {self.max_unknown!r}.")
        if TARGET not in self.model or "num_genes" in self.model:
            raise InputError(
                "The model of a NeighborhoodEncoder is the config of a network, with _target_ and without num_genes, "
                "which is known."
            )
        if self.trainer is not None and not self.objectives:
            raise InputError("NeighborhoodEncoder has a trainer and no objectives: give some, or trainer=None.")
        for name in ("ensembl_ids", "weights"):
            if getattr(self, name) is not None and self.gene_list is None:
                raise InputError(f"NeighborhoodEncoder was given {name} without the gene_list that they go with.")
        if self.weights is not None and self.model[TARGET] not in (_AIDO, _REFERENCE):
            raise InputError(f"Published weights are of {_AIDO} or {_REFERENCE}, not of {self.model[TARGET]}.")

    def fit(self, slices: Sequence[AnnData]) -> Self:
        """Make or read the gene list, draw the network, and train it. Labels are never looked at.

        What became of the genes of each slice is logged; without a trainer, when the slice is first read. If it fails,
        an encoder stays as it was.

        Parameters
        ----------
        slices
            Canonical slices, each one section.

        Returns
        -------
        NeighborhoodEncoder
            Itself.

        Raises
        ------
        InputError
            If the slices or the files cannot be used: values are no counts, too many genes are unknown, a slice has
            fewer cells than a neighbourhood.
        TrainingError
            If the loss stops being finite.

        Warns
        -----
        StgraphWarning
            If there is no trainer, so that the network has learnt nothing; if genes with counts are not in the list, or
            were guessed or summed; or if most batches have fewer than ``max_cells`` centres.
        """
        if not slices:
            raise InputError("NeighborhoodEncoder needs slices to learn from.")
        orthologs = None if self.orthologs is None else Orthologs.read(self.orthologs)
        if self.gene_list is None:
            genes = GeneList.of_slices(slices)
        else:
            genes = GeneList.read(self.gene_list, ensembl_ids=self.ensembl_ids)
        network = self._begin(genes)
        history: list[dict[str, float]] = []
        if self.trainer is not None:
            seed = getattr(self.trainer, "random_state", 0)
            batches = self._batches(self._sequences(slices, genes, orthologs), slices, seed)
            history = self.trainer.fit(network, batches, WeightedSum(self.objectives))
        elif self.weights is None:
            warnings.warn(
                "NeighborhoodEncoder has no trainer, so its network is as it was drawn: until `stgraph train` trains "
                "it, its embeddings are a random function of genes.",
                StgraphWarning,
                stacklevel=2,
            )
        # Only now: what cannot be fitted leaves an encoder as it was.
        self._take(network, genes, orthologs)
        self.history = history
        return self

    def with_network(self, network: NeighborhoodNetwork, genes: GeneList, orthologs: Orthologs | None = None) -> Self:
        """Take a network that was trained elsewhere, with the genes it numbers, instead of `fit`.

        Raises
        ------
        InputError
            If the network is of another number of genes.
        """
        self._take(network, genes, orthologs)
        return self

    def sequences(self, slices: Sequence[AnnData]) -> NeighborhoodSequences:
        """The cells of some slices with their neighbours, as the network reads them.

        Raises
        ------
        InputError
            As of `fit`.
        """
        return self._sequences(slices, self._fitted_list(), self._orthologs)

    def _sequences(
        self, slices: Sequence[AnnData], genes: GeneList, orthologs: Orthologs | None
    ) -> NeighborhoodSequences:
        cells, around, panels = [], [], []
        for adata in slices:
            alignment = genes.align_slice(adata, orthologs=orthologs, max_unknown=self.max_unknown)
            _LOG.info(alignment.summary())
            expressed = expressed_genes(adata, genes, alignment=alignment)
            try:
                with_neighbors, neighborhoods = self.neighbors(_positions(adata), expressed)
            except InputError as error:
                raise InputError(f"{slice_name(adata)}: {error}") from error
            cells.append(with_neighbors)
            around.append(neighborhoods)
            panels.append(alignment.panel)
        return NeighborhoodSequences(cells, around, panels, num_genes=genes.num_genes, depth=self.depth)

    def batches(self, slices: Sequence[AnnData], *, random_state: int = 0) -> SampledBatches:
        """Batches to train on: every cell of the slices is the centre once in an epoch.

        Parameters
        ----------
        slices
            Canonical.
        random_state
            Seed of the order.

        Raises
        ------
        InputError
            As of `fit`.
        """
        return self._batches(self.sequences(slices), slices, random_state)

    def _batches(self, cells: NeighborhoodSequences, slices: Sequence[AnnData], random_state: int) -> SampledBatches:
        sampler = self.batching(
            cells,
            [_positions(adata) for adata in slices],
            max_tokens=self.budget(cells.lengths),
            max_cells=self.max_cells,
            random_state=random_state,
        )
        return SampledBatches(cells, sampler)

    def transform(self, adata: AnnData) -> NDArray[np.float32]:
        """Embeddings of the cells of one canonical slice, seen in `fit` or not.

        Returns
        -------
        ndarray
            (N, out_channels) float32.

        Raises
        ------
        InputError
            If the encoder was not fitted, or as of `fit`.
        """
        self._fitted_list()
        return self.apply(self.network, adata)

    def apply(self, network: NeighborhoodNetwork, adata: AnnData) -> NDArray[np.float32]:
        """What another network that reads the same says of the cells of a slice, (N, out_channels).

        Raises
        ------
        InputError
            As of `transform`.
        """
        cells, order = self.sequences([adata]), spatial_order(_positions(adata))
        return embed_neighborhoods(network, cells, order=order, max_tokens=self.budget(cells.lengths))

    def budget(self, lengths: NDArray[np.int64]) -> int:
        """Tokens of a batch: ``max_tokens``, or those of the longest neighbourhood if it has more.

        Without ``max_tokens``, so many that ``max_cells`` of these neighbourhoods always fit.
        """
        longest = int(lengths.max(initial=1))
        return longest * self.max_cells if self.max_tokens is None else max(self.max_tokens, longest)

    def state(self) -> dict[str, NDArray[Any]]:
        """Weights, gene list, orthologs and the config of the network, as named arrays."""
        return network_state(self.network, self._orthologs, self._fitted_list().state(), _GENES)

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> Self:
        """Take over what `state` gave; no file is looked for.

        Raises
        ------
        InputError
            If an array is missing or of the wrong shape.
        CheckpointError
            If weights are missing or do not fit.
        TrustError
            If a part of the network is of a package that neither is stgraph nor has a class in ``model``.
        """
        trusted = ("stgraph", *_packages(self.model))
        network, orthologs, genes = read_network_state(
            self, state, _GENES, lambda config: self._drawn(config, trusted=trusted)
        )
        self._take(network, GeneList.load_state(genes), orthologs)
        return self

    def _begin(self, genes: GeneList) -> NeighborhoodNetwork:
        """The network before training: published weights, or as it is drawn."""
        if self.weights is None:
            return self._drawn({**self.model, "num_genes": genes.num_genes})
        # The default is a size for weights that are drawn; what somebody says must be what the weights are of.
        said = {} if self.model == _small() else {name: value for name, value in self.model.items() if name != TARGET}
        cls = import_class(str(self.model[TARGET]))
        network = load_aido_tissue(self.weights, network=cls, random_state=self.random_state, **said)
        _check_genes(network, genes)  # before it is trained
        return network

    def _drawn(self, config: Mapping[str, Any], *, trusted: Sequence[str] | None = None) -> NeighborhoodNetwork:
        """A network as it is drawn, in eval mode."""
        cls = import_class(str(config[TARGET]), trusted=trusted)
        if not issubclass(cls, NeighborhoodNetwork):
            raise InputError(
                f"'{config[TARGET]}' is no NeighborhoodNetwork, so that NeighborhoodEncoder cannot read cells with it."
            )
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.random_state)  # torch.manual_seed would seed every GPU, for good
            network: NeighborhoodNetwork = instantiate(config, trusted=trusted)
        return network.eval()

    def _take(self, network: NeighborhoodNetwork, genes: GeneList, orthologs: Orthologs | None) -> None:
        _check_genes(network, genes)
        self.network, self._list, self._orthologs = network, genes, orthologs
        self.genes = list(genes.genes)

    def _fitted_list(self) -> GeneList:
        if self._list is None:
            raise InputError("NeighborhoodEncoder was not fitted: call fit(slices) first.")
        return self._list


def _check_genes(network: NeighborhoodNetwork, genes: GeneList) -> None:
    if network.num_genes != genes.num_genes:
        raise InputError(
            f"The network numbers {network.num_genes} genes, but the gene list has {genes.num_genes}: it was trained "
            "with another."
        )


def _packages(config: Any) -> Iterator[str]:
    """Packages of all classes in a config: who gave it has trusted them."""
    if isinstance(config, Mapping):
        if TARGET in config:
            yield str(config[TARGET]).partition(".")[0]
        config = list(config.values())
    if isinstance(config, Sequence) and not isinstance(config, str | bytes):
        for part in config:
            yield from _packages(part)


def _positions(adata: AnnData) -> NDArray[np.float64]:
    return np.asarray(adata.obsm[_keys.SPATIAL], dtype=np.float64)
