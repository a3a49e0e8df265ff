"""The value encoder as a part of a run: counts to gene tokens and values to an embedding."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import torch
from anndata import AnnData

from stgraph.data.cell_sequences import CellSequences
from stgraph.data.token_budget import TokenBudgetSampler
from stgraph.errors import InputError, StgraphWarning
from stgraph.graph.arguments import check_whole
from stgraph.models.value_encoder import ValueEncoder
from stgraph.objectives.base import Objective, WeightedSum
from stgraph.objectives.cell_is_read import check_cell_is_read
from stgraph.objectives.masked_value import MaskedValue, ValueFromCell
from stgraph.preprocess.orthologs import Orthologs
from stgraph.preprocess.rank_values import RankValueTokenizer
from stgraph.tasks.embed_cells import scale_features
from stgraph.tasks.token_cells import TokenCells
from stgraph.training.batches import SampledBatches
from stgraph.training.loop import Trainer


def _hidden_values() -> tuple[Objective, ...]:
    return MaskedValue(mask_rate=0.3), ValueFromCell(mask_rate=0.3)


@dataclass
class ValueCells(TokenCells):
    """Embeddings of cells by the values of their genes: a tokenizer and a `stgraph.models.value_encoder.ValueEncoder`.

    Unlike `stgraph.tasks.rank_cells.RankCells`, it reads how much there is of a gene, not only in which order. There
    are no published weights: `fit` trains a small network on the cells it is given, to tell hidden values from the
    others. The features of a cell depend on no other cell of its slice; they are centred and scaled with numbers of the
    cells to fit.

    On one slice the light encoder is far better, and training does not help. A linear classifier of cell types (one
    half of the cells to the other, macro F1, one seed) reached on `stgraph.preprocess.encoder.LogPCA` of 50 components
    .68 of osmFISH and .93 of synthetic tissue, on this as it was drawn .17 and .41, and after 200 steps of training .13
    and .27. A likely reason: where most counts are 1, a hidden value is ten thousand over the depth of the cell, which
    every other gene shows, so that depth is what is learnt. The objectives that help
    `stgraph.tasks.rank_cells.RankCells` make it worse (.10 of synthetic tissue), for both views of a cell show its
    depth. For comparison, and for tissue of high counts.

    Parameters
    ----------
    settings
        Arguments of `stgraph.models.value_encoder.ValueEncoder` by name, but the size of the vocabulary. As
        ``value_embedding``, a config: bins of a `stgraph.nn.value_embedding.BinnedValues` are learnt from the cells.
    trainer
        How the network is trained in `fit`. None: not at all, for `stgraph train` or for comparison.
    objectives
        What it is trained to do.
    cells_per_batch
        Most cells of a batch in training.
    vocabulary
        Folder of the tables of a gene vocabulary, as `GeneVocabulary.read` finds them. None: of the genes of the
        slices to fit.
    orthologs
        File of a table of orthologs, for slices of another species than the vocabulary.
    max_length
        Most tokens of a cell; genes of the lowest values, compared with their medians, are cut.
    max_tokens
        Tokens that go through the network at once.
    random_state
        Seed of the weights that are drawn. The trainer has its own.

    Attributes
    ----------
    genes
        Genes of the vocabulary, once fitted.
    network, tokenizer
        Once fitted. The network may be trained in place: ``transform`` and ``state`` follow.
    history
        One record for each step of training.

    Raises
    ------
    InputError
        If an argument is out of range.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.tasks.value_cells import ValueCells
    >>> from stgraph.training.loop import Trainer
    >>> tissue = stgraph.synthetic_tissue(n_cells=500, n_genes=60)
    >>> encoder = ValueCells({"hidden_channels": 16, "out_channels": 8, "num_layers": 1}, Trainer(max_steps=1))
    >>> encoder.fit(tissue).transform(tissue[0]).shape
    (500, 8)
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    trainer: Trainer | None = field(default_factory=lambda: Trainer(max_steps=300, lr=1e-3))
    objectives: Sequence[Objective] = field(default_factory=_hidden_values)
    cells_per_batch: int = 64
    vocabulary: str | None = None
    orthologs: str | None = None
    max_length: int = 512
    max_tokens: int = 16_384
    random_state: int = 0
    genes: list[str] = field(default_factory=list, init=False, repr=False)
    history: list[dict[str, float]] = field(default_factory=list, init=False, repr=False, compare=False)
    network: ValueEncoder = field(init=False, repr=False, compare=False)
    tokenizer: RankValueTokenizer = field(init=False, repr=False, compare=False)
    _orthologs: Orthologs | None = field(default=None, init=False, repr=False, compare=False)

    _as_configs_: ClassVar = ("settings",)
    _network_class: ClassVar = ValueEncoder
    _with_values: ClassVar = True

    def __post_init__(self) -> None:
        check_whole(self, "cells_per_batch", least=2)
        self._check_arguments()
        if self.trainer is not None and not self.objectives:
            raise InputError("ValueCells has a trainer and no objectives: give some, or trainer=None.")
        check_cell_is_read(list(self.objectives), "ValueCells")

    def fit(self, slices: Sequence[AnnData]) -> Self:
        """Make or read the vocabulary, draw the network, and train it. Labels are never looked at.

        Parameters
        ----------
        slices
            Canonical slices, each one section.

        Returns
        -------
        ValueCells
            Itself.

        Raises
        ------
        InputError
            If the slices or the files cannot be used.
        TrainingError
            If the loss stops being finite.

        Warns
        -----
        StgraphWarning
            If there is no trainer, so that the network has learnt nothing.
        """
        if not slices:
            raise InputError("ValueCells needs slices to learn from.")
        vocabulary, orthologs = self._read_tables(slices)
        network = self._network({**self.settings, "vocabulary_size": vocabulary.num_tokens})
        self._take(network, vocabulary, orthologs)
        cells = CellSequences([self.tokenize(adata) for adata in slices])
        values = [ragged.values for ragged in cells.slices if ragged.values is not None]
        network.fit_values(torch.from_numpy(np.concatenate(values)))
        network.fit_genes(torch.from_numpy(np.concatenate([ragged.tokens for ragged in cells.slices])))
        if self.trainer is None:
            self.history = []
            scale_features(network, cells.slices, max_tokens=self.max_tokens)
            warnings.warn(
                "ValueCells has no trainer, so its network is as it was drawn: until `stgraph train` adapts it to "
                "cells, its features are a random function of their genes.",
                StgraphWarning,
                stacklevel=2,
            )
            return self
        sampler = TokenBudgetSampler(
            cells,
            max_tokens=max(self.max_tokens, self.max_length),
            max_cells=self.cells_per_batch,
            random_state=self.trainer.random_state,
        )
        self.history = self.trainer.fit(network, SampledBatches(cells, sampler), WeightedSum(self.objectives))
        scale_features(network, cells.slices, max_tokens=self.max_tokens)
        return self
