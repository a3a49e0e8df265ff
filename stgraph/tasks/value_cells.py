"""The value encoder as a part of a run: counts to gene tokens and values to an embedding."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray

from stgraph._config import TARGET, instantiate
from stgraph.data.cell_sequences import CellSequences
from stgraph.data.token_budget import TokenBudgetSampler
from stgraph.errors import InputError, StgraphWarning
from stgraph.graph.arguments import check_whole
from stgraph.models.value_encoder import ValueEncoder
from stgraph.nn.module_config import module_config
from stgraph.objectives.base import Objective, WeightedSum
from stgraph.objectives.masked_value import MaskedValue, ValueFromCell
from stgraph.preprocess.gene_medians import gene_medians
from stgraph.preprocess.gene_vocabulary import GeneVocabulary
from stgraph.preprocess.named_arrays import bytes_to_genes, check_names, genes_to_bytes
from stgraph.preprocess.orthologs import Orthologs
from stgraph.preprocess.ragged_tokens import RaggedTokens
from stgraph.preprocess.rank_values import RankValueTokenizer
from stgraph.tasks.embed_cells import embed_cells
from stgraph.training.batches import SampledBatches
from stgraph.training.checkpoint import load_weights
from stgraph.training.loop import Trainer

_NETWORK, _VOCABULARY = "network.", "vocabulary."
"""What the arrays of the weights and of the vocabulary are called by in the state, before their own names."""

_SELF = f"{ValueEncoder.__module__}.{ValueEncoder.__qualname__}"


def _hidden_values() -> tuple[Objective, ...]:
    return MaskedValue(mask_rate=0.3), ValueFromCell(mask_rate=0.3)


@dataclass
class ValueCells:
    """Embeddings of cells by the values of their genes: a tokenizer and a `stgraph.models.value_encoder.ValueEncoder`.

    Unlike `stgraph.tasks.rank_cells.RankCells`, it reads how much there is of a gene, not only in which order. There
    are no published weights: `fit` trains a small network on the cells it is given, to tell hidden values from the
    others.
    The embedding of a cell depends on no other cell, and has length 1.

    On one slice the light encoder is far better. Of osmFISH, a linear classifier of cell types (one half of the slice
    to the other, macro F1) reached .68 on `stgraph.preprocess.encoder.LogPCA` of 50 components, .33 to .38 on this; of
    synthetic tissue, .86 (accuracy, without scaling features; 20 components) against .35 to .39, and .64 before any
    training (features scaled). A likely reason: where most counts are 1, a hidden value is ten thousand over the depth
    of the cell, which every other gene shows, so that depth is what is learnt. For comparison, and for tissue of high
    counts.

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

    def __post_init__(self) -> None:
        check_whole(self, "cells_per_batch", least=2)
        check_whole(self, "max_length", least=2)
        check_whole(self, "max_tokens", least=self.max_length)
        check_whole(self, "random_state", least=0)
        if "vocabulary_size" in self.settings or TARGET in self.settings:
            raise InputError(
                "The settings of ValueCells are those of ValueEncoder but vocabulary_size, which is known."
            )
        if self.trainer is not None and not self.objectives:
            raise InputError("ValueCells has a trainer and no objectives: give some, or trainer=None.")

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
        orthologs = None if self.orthologs is None else Orthologs.read(self.orthologs)
        if self.vocabulary is not None:
            vocabulary = GeneVocabulary.read(self.vocabulary)
        else:
            vocabulary = GeneVocabulary.of_medians(gene_medians(slices, orthologs=orthologs))
        network = self._network({TARGET: _SELF, **self.settings, "vocabulary_size": vocabulary.num_tokens})
        self._take(network, vocabulary, orthologs)
        cells = CellSequences([self.tokenize(adata) for adata in slices])
        values = [ragged.values for ragged in cells.slices if ragged.values is not None]
        network.fit_values(torch.from_numpy(np.concatenate(values)))
        if self.trainer is None:
            self.history = []
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
        return self

    def tokenize(self, adata: AnnData) -> RaggedTokens:
        """Tokens and values of the N cells of one slice, each with the class token first.

        Raises
        ------
        InputError
            If the encoder was not fitted, or knows no gene of the slice.
        """
        self._check_fitted()
        return self.tokenizer.encode_slice(adata, orthologs=self._orthologs, with_values=True)

    def transform(self, adata: AnnData) -> NDArray[np.float32]:
        """Embeddings of one slice.

        Parameters
        ----------
        adata
            One canonical slice. Genes that it lacks are absent from the sequences, as genes without counts are; a
            `StgraphWarning` says how many of its genes are not in the vocabulary.

        Returns
        -------
        ndarray
            (N, out_channels) float32, rows of length 1.

        Raises
        ------
        InputError
            If the encoder was not fitted, or knows no gene of the slice.
        """
        cells = self.tokenize(adata)
        return embed_cells(self.network, cells, max_tokens=self.max_tokens)

    def state(self) -> dict[str, NDArray[Any]]:
        """Weights, vocabulary, orthologs and the config of the network, as named arrays."""
        self._check_fitted()
        ids = {} if self._orthologs is None else self._orthologs.ids
        return {
            "config": np.frombuffer(json.dumps(module_config(self.network)).encode(), dtype=np.uint8).copy(),
            "orthologs": genes_to_bytes([name for pair in ids.items() for name in pair]),
            **{_VOCABULARY + name: array for name, array in self.tokenizer.vocabulary.state().items()},
            # Copies, for the network may be trained on.
            **{_NETWORK + name: tensor.cpu().numpy().copy() for name, tensor in self.network.state_dict().items()},
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> Self:
        """Take over what `state` gave; no file is looked for.

        Raises
        ------
        InputError
            If an array is missing or of the wrong shape.
        CheckpointError
            If weights are missing or do not fit.
        """
        own = {name for name in state if not name.startswith((_NETWORK, _VOCABULARY))}
        check_names(self, dict.fromkeys(own, np.empty(0)), {"config", "orthologs"})
        try:
            config = {**json.loads(state["config"].tobytes()), TARGET: _SELF}
        except (ValueError, TypeError) as error:
            raise InputError(f"The state of ValueCells does not say how its network is built ({error}).") from error
        vocabulary = GeneVocabulary.load_state(_below(state, _VOCABULARY))
        names = bytes_to_genes(state["orthologs"]) if len(state["orthologs"]) else []
        orthologs = Orthologs(dict(zip(names[::2], names[1::2], strict=True))) if names else None
        network = self._network(config)
        weights = {name: torch.from_numpy(np.ascontiguousarray(w)) for name, w in _below(state, _NETWORK).items()}
        load_weights(network, weights, name="ValueCells")
        self._take(network, vocabulary, orthologs)
        return self

    def _network(self, config: Mapping[str, Any]) -> ValueEncoder:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.random_state)  # torch.manual_seed would seed every GPU, for good
            network: ValueEncoder = instantiate(config, trusted=("stgraph",))
        return network.eval()

    def _take(self, network: ValueEncoder, vocabulary: GeneVocabulary, orthologs: Orthologs | None) -> None:
        if vocabulary.num_tokens > network.vocabulary_size:
            raise InputError(
                f"The vocabulary has {vocabulary.num_tokens} tokens, the class token included, but the network only "
                f"{network.vocabulary_size}: it was trained with another."
            )
        self.tokenizer = RankValueTokenizer(vocabulary, self.max_length)
        self.genes, self.network, self._orthologs = vocabulary.genes, network, orthologs

    def _check_fitted(self) -> None:
        if not self.genes:
            raise InputError("The cell encoder was not fitted: call fit(slices) first.")


def _below(state: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
