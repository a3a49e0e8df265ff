"""SToFM's cell encoder as a part of a run: counts to gene tokens to an embedding."""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from anndata import AnnData

from stgraph.errors import InputError, StgraphWarning
from stgraph.models.bert_checkpoint import load_rank_encoder
from stgraph.models.rank_encoder import RankEncoder
from stgraph.preprocess.gene_vocabulary import GeneVocabulary
from stgraph.preprocess.orthologs import Orthologs
from stgraph.preprocess.rank_values import RankValueTokenizer
from stgraph.tasks.embed_cells import scale_features
from stgraph.tasks.token_cells import TokenCells


@dataclass
class RankCells(TokenCells):
    """Embeddings of cells by the order of their genes: a tokenizer and a `stgraph.models.rank_encoder.RankEncoder`.

    With ``weights`` the network is a published one: the projected class token, of length 1. Without, `fit` draws a
    small one, which has learnt nothing: what it says of a cell is a random function of its genes (the mean of their
    states), until ``stgraph train`` adapts it; its features are centred and scaled with numbers of the slices to fit.
    The features of a cell depend on no other cell of its slice, unless ties are random, which depend on its row.

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
    start
        Directory of a model that stgraph saved, with an encoder of this kind: its network, vocabulary and scale of
        features are where this one begins, to be trained on.
    random_state
        Seed of weights that are drawn (with published weights, those of their heads), and of random ties.

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
    start: str | None = None
    random_state: int = 0
    genes: list[str] = field(default_factory=list, init=False, repr=False)
    network: RankEncoder = field(init=False, repr=False, compare=False)
    tokenizer: RankValueTokenizer = field(init=False, repr=False, compare=False)
    _orthologs: Orthologs | None = field(default=None, init=False, repr=False, compare=False)

    _network_class: ClassVar = RankEncoder

    def __post_init__(self) -> None:
        self._check_arguments()
        if self.weights is not None and self.vocabulary is None:
            raise InputError("RankCells needs the vocabulary that its weights were trained with: give both folders.")
        if self.weights is not None and self.settings:
            raise InputError("RankCells takes weights, which say how large the network is, or settings, not both.")
        if self.start is not None and (self.weights or self.vocabulary or self.orthologs or self.settings):
            raise InputError(
                "RankCells takes all from the model it is to start with: leave weights, vocabulary, orthologs and "
                "settings out (encoder.settings={})."
            )

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
            Canonical slices, each one section; looked at to make a vocabulary, and for a network that is drawn for how
            often genes occur and how large its features are. Not looked at with ``weights`` and ``vocabulary``.

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
        if self.start is not None:
            self._begin_with(self.start)
            return self
        vocabulary, orthologs = self._read_tables(slices, self.collisions)
        if self.weights is not None:
            self._take(load_rank_encoder(self.weights, random_state=self.random_state), vocabulary, orthologs)
            return self
        settings = {"max_positions": self.max_length, **self.settings}
        self._take(self._network({**settings, "vocabulary_size": vocabulary.num_tokens}), vocabulary, orthologs)
        cells = [self.tokenize(adata) for adata in slices]
        if cells:
            self.network.fit_genes(torch.from_numpy(np.concatenate([ragged.tokens for ragged in cells])))
            scale_features(self.network, cells, max_tokens=self.max_tokens)
        warnings.warn(
            "RankCells has no weights, so its network is as it was drawn: until `stgraph train` adapts it to cells, "
            "its features are a random function of their genes.",
            StgraphWarning,
            stacklevel=2,
        )
        return self

    def _tokenizer(self, vocabulary: GeneVocabulary) -> RankValueTokenizer:
        return RankValueTokenizer(
            vocabulary, self.max_length, ties=self.ties, collisions=self.collisions, random_state=self.random_state
        )
