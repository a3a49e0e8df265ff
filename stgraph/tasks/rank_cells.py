"""SToFM's cell encoder as a part of a run: counts to gene tokens to an embedding."""

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray

from stgraph._config import TARGET, instantiate, to_config
from stgraph.errors import InputError, StgraphWarning
from stgraph.graph.arguments import check_whole
from stgraph.models.bert_checkpoint import load_rank_encoder
from stgraph.models.rank_encoder import RankEncoder
from stgraph.preprocess.gene_medians import gene_medians
from stgraph.preprocess.gene_vocabulary import GeneVocabulary
from stgraph.preprocess.named_arrays import bytes_to_genes, check_names, genes_to_bytes
from stgraph.preprocess.orthologs import Orthologs
from stgraph.preprocess.ragged_tokens import RaggedTokens
from stgraph.preprocess.rank_values import RankValueTokenizer
from stgraph.tasks.embed_cells import embed_cells
from stgraph.training.checkpoint import load_weights

_NETWORK, _VOCABULARY = "network.", "vocabulary."
"""What the arrays of the weights and of the vocabulary are called by in the state, before their own names."""

_SELF = f"{RankEncoder.__module__}.{RankEncoder.__qualname__}"


@dataclass
class RankCells:
    """Embeddings of cells by the order of their genes: a tokenizer and a `stgraph.models.rank_encoder.RankEncoder`.

    With ``weights`` the network is a published one. Without, `fit` draws a small one, which has learnt nothing: what it
    says of a cell is a random function of its genes, until ``stgraph train`` adapts it. The embedding of a cell depends
    on no other cell, and has length 1.

    Parameters
    ----------
    weights
        Folder of a published cell encoder, as `stgraph.models.bert_checkpoint.load_rank_encoder` reads it; needs its
        ``vocabulary``.
    vocabulary
        Folder of the tables of a gene vocabulary, as `GeneVocabulary.read` finds them. None: of the genes of the
        slices to fit, with their medians over these.
    orthologs
        File of a table of orthologs, for slices of another species than the vocabulary.
    settings
        Arguments of `stgraph.models.rank_encoder.RankEncoder` by name, but the size of the vocabulary, for a network
        that is drawn; published weights have their own.
    max_length
        Most tokens of a cell; the genes of the lowest values are cut.
    ties, collisions
        As for `stgraph.preprocess.rank_values.RankValueTokenizer`.
    max_tokens
        Tokens that go through the network at once.
    random_state
        Seed of the weights, where they are drawn, and of random ties.

    Attributes
    ----------
    genes
        Genes of the vocabulary, once fitted.
    network, tokenizer
        Once fitted. The network may be trained in place: ``transform`` and ``state`` follow.

    Raises
    ------
    InputError
        If an argument is out of range, or some do not go together.

    Examples
    --------
    >>> import warnings, stgraph
    >>> from stgraph.tasks.rank_cells import RankCells
    >>> tissue = stgraph.synthetic_tissue(n_cells=50, n_genes=60)
    >>> encoder = RankCells(settings={"hidden_channels": 32, "num_layers": 1, "out_channels": 16})
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")  # the network has learnt nothing yet
    ...     encoder.fit(tissue).transform(tissue[0]).shape
    (50, 16)
    """

    weights: str | None = None
    vocabulary: str | None = None
    orthologs: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    max_length: int = 2048
    ties: Literal["vocabulary", "random"] = "vocabulary"
    collisions: Literal["sum", "keep"] = "sum"
    max_tokens: int = 16384
    random_state: int = 0
    genes: list[str] = field(default_factory=list, init=False, repr=False)
    network: RankEncoder = field(init=False, repr=False, compare=False)
    tokenizer: RankValueTokenizer = field(init=False, repr=False, compare=False)
    _orthologs: Orthologs | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_whole(self, "max_length", least=2)
        check_whole(self, "max_tokens", least=self.max_length)
        check_whole(self, "random_state", least=0)
        if self.weights is not None and self.vocabulary is None:
            raise InputError("RankCells needs the vocabulary that its weights were trained with: give both folders.")
        if self.weights is not None and self.settings:
            raise InputError("RankCells takes weights, which say how large the network is, or settings, not both.")
        if "vocabulary_size" in self.settings or TARGET in self.settings:
            raise InputError("The settings of RankCells are those of RankEncoder but vocabulary_size, which is known.")

    @classmethod
    def from_published(
        cls,
        folder: str | os.PathLike[str],
        vocabulary: str | os.PathLike[str],
        *,
        orthologs: str | os.PathLike[str] | None = None,
        max_length: int = 2048,
    ) -> Self:
        """SToFM's cell encoder in its published layout, ready to transform.

        Parameters
        ----------
        folder
            Has ``cell_bert/`` and ``cell_proj.bin``.
        vocabulary
            Folder of the tables of its gene vocabulary.
        orthologs
            File of a table of orthologs, for mouse.
        max_length
            As above.

        Raises
        ------
        CheckpointError
            If the weights cannot be used.
        InputError
            If the vocabulary cannot be read, or has more tokens than the weights.
        """
        table = None if orthologs is None else os.fspath(orthologs)
        encoder = cls(os.fspath(folder), os.fspath(vocabulary), table, max_length=max_length)
        return encoder.fit([])

    def fit(self, slices: Sequence[AnnData]) -> Self:
        """Read or make the vocabulary, and read or draw the network. Labels are never looked at.

        Parameters
        ----------
        slices
            Canonical slices, each one section; looked at only to make a vocabulary.

        Returns
        -------
        RankCells
            Itself.

        Raises
        ------
        InputError
            If the slices or the files cannot be used.
        CheckpointError
            If the weights cannot be used.

        Warns
        -----
        StgraphWarning
            If the network was drawn, so that it has learnt nothing.
        """
        orthologs = None if self.orthologs is None else Orthologs.read(self.orthologs)
        if self.vocabulary is not None:
            vocabulary = GeneVocabulary.read(self.vocabulary)
        elif slices:
            medians = gene_medians(slices, orthologs=orthologs, collisions=self.collisions)
            vocabulary = GeneVocabulary.of_medians(medians)
        else:
            raise InputError("RankCells needs slices to make a vocabulary of, or the folder of one.")
        network = self._drawn(vocabulary) if self.weights is None else load_rank_encoder(self.weights)
        self._take(network, vocabulary, orthologs)
        if self.weights is None:
            warnings.warn(
                "RankCells has no weights, so its network is as it was drawn: until `stgraph train` adapts it to "
                "cells, its features are a random function of their genes.",
                StgraphWarning,
                stacklevel=2,
            )
        return self

    def tokenize(self, adata: AnnData) -> RaggedTokens:
        """Tokens of the N cells of one slice, each with the class token first.

        Raises
        ------
        InputError
            If the encoder was not fitted, or knows no gene of the slice.
        """
        self._check_fitted()
        return self.tokenizer.encode_slice(adata, orthologs=self._orthologs)

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
        tokens = self.tokenize(adata)
        return embed_cells(self.network, tokens, max_tokens=self.max_tokens)

    def state(self) -> dict[str, NDArray[Any]]:
        """Weights, vocabulary, orthologs and the sizes of the network, as named arrays."""
        self._check_fitted()
        config = {name: value for name, value in to_config(self.network).items() if name != TARGET}
        ids = {} if self._orthologs is None else self._orthologs.ids
        return {
            "sizes": np.frombuffer(json.dumps(config).encode(), dtype=np.uint8).copy(),
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
            If weights are missing or do not fit the sizes.
        """
        own = {name for name in state if not name.startswith((_NETWORK, _VOCABULARY))}
        check_names(self, dict.fromkeys(own, np.empty(0)), {"sizes", "orthologs"})
        vocabulary = GeneVocabulary.load_state(_below(state, _VOCABULARY))
        try:
            sizes = json.loads(state["sizes"].tobytes())
        except ValueError as error:
            raise InputError(f"The state of RankCells does not say how large its network is ({error}).") from error
        names = bytes_to_genes(state["orthologs"]) if len(state["orthologs"]) else []
        orthologs = Orthologs(dict(zip(names[::2], names[1::2], strict=True))) if names else None
        network = self._network({**sizes, TARGET: _SELF})
        weights = {name: torch.from_numpy(np.ascontiguousarray(w)) for name, w in _below(state, _NETWORK).items()}
        load_weights(network, weights, name="RankCells")
        self._take(network.eval(), vocabulary, orthologs)
        return self

    def _drawn(self, vocabulary: GeneVocabulary) -> RankEncoder:
        settings = {"max_positions": self.max_length, **self.settings}
        return self._network({TARGET: _SELF, **settings, "vocabulary_size": vocabulary.num_tokens}).eval()

    def _network(self, config: Mapping[str, Any]) -> RankEncoder:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.random_state)  # torch.manual_seed would seed every GPU, for good
            network: RankEncoder = instantiate(config, trusted=("stgraph",))
        return network

    def _take(self, network: RankEncoder, vocabulary: GeneVocabulary, orthologs: Orthologs | None) -> None:
        if vocabulary.num_tokens > network.vocabulary_size:
            raise InputError(
                f"The vocabulary has {vocabulary.num_tokens} tokens, the class token included, but the network only "
                f"{network.vocabulary_size}: it was trained with another."
            )
        if self.max_length > network.max_positions:
            raise InputError(
                f"max_length={self.max_length} is more than the {network.max_positions} positions of the network."
            )
        self.tokenizer = RankValueTokenizer(
            vocabulary, self.max_length, ties=self.ties, collisions=self.collisions, random_state=self.random_state
        )
        self.genes, self.network, self._orthologs = vocabulary.genes, network, orthologs

    def _check_fitted(self) -> None:
        if not self.genes:
            raise InputError("The cell encoder was not fitted: call fit(slices) first.")


def _below(state: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
