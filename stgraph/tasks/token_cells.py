"""What encoders of cells by their gene tokens share: a tokenizer, a network, and how both are kept."""

from abc import ABC
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray

from stgraph._config import TARGET, instantiate
from stgraph.errors import InputError
from stgraph.graph.arguments import check_whole
from stgraph.models.cell_network import CellNetwork
from stgraph.preprocess.gene_medians import gene_medians
from stgraph.preprocess.gene_vocabulary import GeneVocabulary
from stgraph.preprocess.orthologs import Orthologs
from stgraph.preprocess.ragged_tokens import RaggedTokens
from stgraph.preprocess.rank_values import RankValueTokenizer
from stgraph.tasks.embed_cells import embed_cells
from stgraph.tasks.network_state import network_state, read_network_state
from stgraph.training.checkpoint import load_checkpoint

_VOCABULARY = "vocabulary."
"""What the arrays of the weights and of the vocabulary are called by in the state, before their own names."""


class TokenCells(ABC):
    """A `stgraph.preprocess.encoder.CellEncoder` that is a tokenizer and a network; subclasses say how to fit.

    A subclass is a dataclass with the fields below, names its network class, and calls `_take` in its ``fit``.

    Attributes
    ----------
    vocabulary, orthologs, settings, max_length, max_tokens, random_state
        Arguments of the subclass.
    genes
        Genes of the vocabulary, once fitted.
    network, tokenizer
        Once fitted. The network may be trained in place: ``transform`` and ``state`` follow.

    Examples
    --------
    See `stgraph.tasks.rank_cells.RankCells` and `stgraph.tasks.value_cells.ValueCells`.
    """

    vocabulary: str | None
    orthologs: str | None
    settings: Mapping[str, Any]
    max_length: int
    max_tokens: int
    random_state: int
    genes: list[str]
    network: Any
    tokenizer: RankValueTokenizer
    _orthologs: Orthologs | None

    _network_class: ClassVar[type[CellNetwork]]
    _with_values: ClassVar[bool] = False

    def tokenize(self, adata: AnnData) -> RaggedTokens:
        """Tokens of the N cells of one slice, each with the class token first; with values if they are read.

        Raises
        ------
        InputError
            If the encoder was not fitted, or knows no gene of the slice.
        """
        self._check_fitted()
        return self.tokenizer.encode_slice(adata, orthologs=self._orthologs, with_values=self._with_values)

    def transform(self, adata: AnnData) -> NDArray[np.float32]:
        """Features of one slice.

        Parameters
        ----------
        adata
            One canonical slice. Genes that it lacks are absent from the sequences, as genes without counts are; a
            `StgraphWarning` says how many of its genes are not in the vocabulary.

        Returns
        -------
        ndarray
            (N, out_channels) float32. Of published weights, rows of length 1; of others, such rows centred and scaled
            with numbers of the training cells, so that a feature of a cell depends on no other cell of the slice.

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
        return network_state(self.network, self._orthologs, self.tokenizer.vocabulary.state(), _VOCABULARY)

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> Self:
        """Take over what `state` gave; no file is looked for.

        Raises
        ------
        InputError
            If an array is missing or of the wrong shape.
        CheckpointError
            If weights are missing or do not fit.
        """
        network, orthologs, vocabulary = read_network_state(self, state, _VOCABULARY, self._network)
        self._take(network, GeneVocabulary.load_state(vocabulary), orthologs)
        return self

    def _begin_with(self, folder: str) -> None:
        """Take over network, vocabulary and orthologs of a saved model that has an encoder of this class."""
        config, tensors = load_checkpoint(folder)
        own = f"{type(self).__module__}.{type(self).__qualname__}"
        found = config.get("parts", {}).get("encoder", {}).get(TARGET)
        if found != own:
            raise InputError(
                f"'{folder}' is a model whose encoder of cells is {found}, not {own}, so none to begin with."
            )
        self.load_state({name: tensor.numpy() for name, tensor in tensors["encoder"].items()})

    def _check_arguments(self) -> None:
        check_whole(self, "max_length", least=2)
        check_whole(self, "max_tokens", least=self.max_length)
        check_whole(self, "random_state", least=0)
        if "vocabulary_size" in self.settings or TARGET in self.settings:
            raise InputError(
                f"The settings of {type(self).__name__} are those of {self._network_class.__name__} but "
                "vocabulary_size, which is known."
            )

    def _read_tables(
        self, slices: Sequence[AnnData], collisions: Literal["sum", "keep"] = "sum"
    ) -> tuple[GeneVocabulary, Orthologs | None]:
        orthologs = None if self.orthologs is None else Orthologs.read(self.orthologs)
        if self.vocabulary is not None:
            return GeneVocabulary.read(self.vocabulary), orthologs
        if not slices:
            raise InputError(f"{type(self).__name__} needs slices to make a vocabulary of, or the folder of one.")
        return GeneVocabulary.of_medians(gene_medians(slices, orthologs=orthologs, collisions=collisions)), orthologs

    def _network(self, config: Mapping[str, Any]) -> Any:
        """A network as it is drawn, in eval mode."""
        cls = self._network_class
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.random_state)  # torch.manual_seed would seed every GPU, for good
            target = f"{cls.__module__}.{cls.__qualname__}"
            network: CellNetwork = instantiate({**config, TARGET: target}, trusted=("stgraph",))
        return network.eval()

    def _take(self, network: CellNetwork, vocabulary: GeneVocabulary, orthologs: Orthologs | None) -> None:
        if vocabulary.num_tokens > network.vocabulary_size:
            raise InputError(
                f"The vocabulary has {vocabulary.num_tokens} tokens, the class token included, but the network only "
                f"{network.vocabulary_size}: it was trained with another."
            )
        positions = getattr(network, "max_positions", self.max_length)
        if self.max_length > positions:
            raise InputError(f"max_length={self.max_length} is more than the {positions} positions of the network.")
        self.tokenizer = self._tokenizer(vocabulary)
        self.genes, self.network, self._orthologs = vocabulary.genes, network, orthologs

    def _tokenizer(self, vocabulary: GeneVocabulary) -> RankValueTokenizer:
        return RankValueTokenizer(vocabulary, self.max_length)

    def _check_fitted(self) -> None:
        if not self.genes:
            raise InputError("The cell encoder was not fitted: call fit(slices) first.")
