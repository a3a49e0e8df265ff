"""A BERT encoder on sequences that lie end to end, weight for weight."""

import math
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stgraph.errors import InputError
from stgraph.nn.packed_attention import SequenceGroups, grouped_attention
from stgraph.nn.sparse_dropout import sparse_dropout

Activation = Literal["gelu", "gelu_new", "relu"]
"""Nonlinearity of the feed-forward networks, as BERT's config names it; ``"gelu_new"`` is the one by tanh."""

Sizes = tuple[tuple[int, int, int], ...]


def activate(x: Tensor, activation: Activation) -> Tensor:
    """The nonlinearity of that name."""
    if activation == "relu":
        return F.relu(x)
    return F.gelu(x, approximate="tanh" if activation == "gelu_new" else "none")


def check_none_empty(offsets: Tensor) -> None:
    """Refuse sequences without any token.

    Raises
    ------
    InputError
        If there is one.
    """
    empty = (offsets.diff() < 1).nonzero()
    if len(empty):
        raise InputError(
            f"Sequence {int(empty[0])} has no tokens, so that it has no first one: give each cell a class token."
        )


def check_tokens(tokens: Tensor, vocabulary_size: int) -> None:
    """Refuse tokens that are not of the vocabulary.

    Raises
    ------
    InputError
        If there is one.
    """
    if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < vocabulary_size:
        raise InputError(
            f"There are tokens from {int(tokens.min())} to {int(tokens.max())}, but the network's vocabulary is "
            f"0 to {vocabulary_size - 1}: it belongs to other genes."
        )


def matrix_std(channels: int) -> float:
    """Standard deviation that matrices are drawn with: .02, as in BERT, at its 768 channels.

    Parameters
    ----------
    channels
        Width of the states.

    Returns
    -------
    float
        Falls with the root of the width, so that the gain of a layer is the same.

    Examples
    --------
    >>> from stgraph.nn.bert import matrix_std
    >>> matrix_std(768), round(matrix_std(64), 3)
    (0.02, 0.069)
    """
    return 0.02 * math.sqrt(768 / channels)


class BertEncoder(nn.Module):
    """Words, positions and token type, then post-norm layers: the encoder of Geneformer and of SToFM's cells.

    The state dict has the names of a Hugging Face ``BertModel`` without its pooler, and gives the same numbers. There
    are no padding tokens: attention is `stgraph.nn.packed_attention.packed_attention`, and everything else acts on the
    tokens of all sequences at once.

    Parameters
    ----------
    vocabulary_size
        Rows of the vocabulary.
    channels
        C, a multiple of ``heads``.
    num_layers
        Layers.
    heads
        H.
    ffn_channels
        Width of the feed-forward networks.
    max_positions
        Most tokens of a sequence.
    num_types
        Token types. All tokens are of type 0: the others are kept for the weights.
    dropout
        Of the embedded tokens and of both branches.
    attention_dropout
        Of the attention weights.
    activation
        Of the feed-forward networks.
    norm_eps
        Added to variances.

    Shapes
    ------
    tokens : (T,) int64
    offsets : (S + 1,) int64, from 0 to T
    output : (T, C)

    References
    ----------
    Devlin et al., BERT: pre-training of deep bidirectional transformers for language understanding (2019).
    Theodoris et al., Transfer learning enables predictions in network biology (2023).

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.bert import BertEncoder
    >>> encoder = BertEncoder(vocabulary_size=10, channels=8, num_layers=2, heads=2, ffn_channels=16)
    >>> encoder(torch.tensor([9, 2, 3, 9, 4]), torch.tensor([0, 3, 5])).shape
    torch.Size([5, 8])
    """

    def __init__(
        self,
        vocabulary_size: int,
        channels: int,
        num_layers: int,
        heads: int,
        ffn_channels: int,
        *,
        max_positions: int = 2048,
        num_types: int = 2,
        dropout: float = 0.02,
        attention_dropout: float = 0.02,
        activation: Activation = "relu",
        norm_eps: float = 1e-12,
    ) -> None:
        super().__init__()
        if min(vocabulary_size, channels, num_layers, ffn_channels, max_positions, num_types) < 1:
            raise ValueError("BertEncoder needs widths and numbers of at least 1.")
        if not (0 <= dropout < 1 and 0 <= attention_dropout < 1):
            raise ValueError(f"BertEncoder needs dropouts from 0 to below 1, not {dropout} and {attention_dropout}.")
        self.dropout = dropout
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(vocabulary_size, channels),
                "position_embeddings": nn.Embedding(max_positions, channels),
                "token_type_embeddings": nn.Embedding(num_types, channels),
                "LayerNorm": nn.LayerNorm(channels, eps=norm_eps),
            }
        )
        layers = [
            BertLayer(channels, heads, ffn_channels, dropout, attention_dropout, activation, norm_eps)
            for _ in range(num_layers)
        ]
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})
        self.reset_parameters()

    @property
    def word_weight(self) -> Tensor:
        """(vocabulary_size, C), the embedding of each token."""
        words: Any = self.embeddings["word_embeddings"]
        weight: Tensor = words.weight
        return weight

    @property
    def max_positions(self) -> int:
        """Most tokens of a sequence."""
        positions: Any = self.embeddings["position_embeddings"]
        return int(positions.num_embeddings)

    @property
    def layers(self) -> list["BertLayer"]:
        """All layers, the first first."""
        layers: Any = self.encoder["layer"]
        return list(layers)

    def reset_parameters(self) -> None:
        """Draw all weights as BERT does, matrices so that any width has the gain of its 768 channels.

        With BERT's own standard deviation of .02 a network of 64 channels says the same of all cells (the embeddings
        of two differ by a ten-thousandth), and a contrast between them does not begin to train. Words are drawn as
        matrices are, for genes are told by products with them; positions and types at a quarter of it, so that a token
        says first which gene it is and then where it stands. Padding, token 0, starts at zero.
        """
        std = matrix_std(self.word_weight.shape[1])
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=std)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=std if module is self.embeddings["word_embeddings"] else std / 4)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
        with torch.no_grad():
            self.word_weight[0] = 0

    def forward(self, tokens: Tensor, offsets: Tensor) -> Tensor:
        """States (T, C) of all tokens.

        Raises
        ------
        InputError
            If a sequence has more tokens than there are positions, or a token is not of the vocabulary.
        """
        groups = SequenceGroups.of(offsets)
        x = groups.gather(self._embed(tokens, offsets))
        for layer in self.layers:
            x = layer(x, groups.sizes)
        return groups.scatter(x)

    def first(self, tokens: Tensor, offsets: Tensor) -> Tensor:
        """States (S, C) of the first token of each sequence; in the last layer no other is computed.

        Raises
        ------
        InputError
            As `forward`, and if a sequence has no tokens.
        """
        check_none_empty(offsets)
        lengths = offsets.diff()
        groups = SequenceGroups.of(offsets)
        x = groups.gather(self._embed(tokens, offsets))
        *layers, last = self.layers
        for layer in layers:
            x = layer(x, groups.sizes)
        by_length = lengths.argsort(stable=True)
        starts = lengths[by_length].cumsum(0) - lengths[by_length]
        states: Tensor = last(x, tuple((n, 1, length) for n, _, length in groups.sizes), x.index_select(0, starts))
        return states.index_select(0, by_length.argsort())

    def _embed(self, tokens: Tensor, offsets: Tensor) -> Tensor:
        lengths = offsets.diff()
        if len(lengths) and int(lengths.max()) > self.max_positions:
            raise InputError(
                f"A cell has {int(lengths.max())} tokens, but the network has {self.max_positions} positions: "
                f"tokenize with max_length={self.max_positions} or less."
            )
        check_tokens(tokens, len(self.word_weight))
        starts = offsets[:-1].repeat_interleave(lengths, output_size=len(tokens))
        embeddings: Any = self.embeddings
        x = embeddings["word_embeddings"](tokens) + embeddings["token_type_embeddings"].weight[0]
        x = x + embeddings["position_embeddings"](torch.arange(len(tokens), device=tokens.device) - starts)
        return sparse_dropout(embeddings["LayerNorm"](x), self.dropout, self.training)


class BertLayer(nn.Module):
    """Self-attention, then a feed-forward network; each sum with its input is normalised.

    Parameters
    ----------
    channels, heads, ffn_channels, dropout, attention_dropout, activation, norm_eps
        As for `BertEncoder`.

    Shapes
    ------
    x : (T, C), in the order of their groups
    output : (T, C)

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.bert import BertLayer
    >>> BertLayer(8, heads=2, ffn_channels=16)(torch.randn(6, 8), ((2, 3, 3),)).shape
    torch.Size([6, 8])
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        ffn_channels: int,
        dropout: float = 0.02,
        attention_dropout: float = 0.02,
        activation: Activation = "relu",
        norm_eps: float = 1e-12,
    ) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise ValueError(f"channels ({channels}) must be a multiple of heads ({heads}).")
        if activation not in get_args(Activation):
            raise ValueError(f"activation must be one of {', '.join(get_args(Activation))}, not {activation!r}.")
        self.heads = heads
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.activation: Activation = activation

        def ends_in_norm(width: int) -> nn.ModuleDict:
            return nn.ModuleDict(
                {"dense": nn.Linear(width, channels), "LayerNorm": nn.LayerNorm(channels, eps=norm_eps)}
            )

        projections = {name: nn.Linear(channels, channels) for name in ("query", "key", "value")}
        self.attention = nn.ModuleDict({"self": nn.ModuleDict(projections), "output": ends_in_norm(channels)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(channels, ffn_channels)})
        self.output = ends_in_norm(ffn_channels)

    def forward(self, x: Tensor, sizes: Sizes, queries: Tensor | None = None) -> Tensor:
        """New states of all tokens, or of those given as ``queries``, which attend to all.

        Parameters
        ----------
        x
            (T, C) in the order of the groups.
        sizes
            Of `stgraph.nn.packed_attention.SequenceGroups`.
        queries
            (Q, C) if not all tokens; ``sizes`` says how many each sequence has.
        """
        own = x if queries is None else queries
        project: Any = self.attention["self"]
        q, k, v = (
            project[name](states).unflatten(1, (self.heads, -1))
            for name, states in (("query", own), ("key", x), ("value", x))
        )
        dropout = self.attention_dropout if self.training else 0.0
        attended = grouped_attention(q, k, v, sizes, dropout=dropout).flatten(1)
        own = self._add(own, attended, self.attention["output"])
        return self._add(own, activate(self.intermediate["dense"](own), self.activation), self.output)

    def _add(self, x: Tensor, branch: Tensor, output: Any) -> Tensor:
        out: Tensor = output["LayerNorm"](x + sparse_dropout(output["dense"](branch), self.dropout, self.training))
        return out
