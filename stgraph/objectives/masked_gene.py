"""Masked gene modelling: say which gene stands where from the other genes of the cell."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from stgraph.data.cell_batch import CellBatch, Hidden
from stgraph.data.choice import choose_cells
from stgraph.errors import InputError
from stgraph.models.cell_network import CellStates


@dataclass(frozen=True)
class MaskedGene:
    """Mean cross entropy, over the vocabulary, of genes that were hidden (BERT's masked language model on genes).

    For a `stgraph.models.cell_network.CellNetwork` with ``predict_genes``. Of the hidden genes, most are replaced by
    the mask token, some by another gene, and the rest stay as they are but are asked for. Another gene is one of the
    batch, each equally likely: one that no cell of the panel can have would give itself away.

    In a sequence in order of expression this is easier than it looks: a masked gene stands between two others, which
    bracket its expression, and where many genes are as good as tied in an order of their own, as in panels of some
    hundred genes, that alone tells it (of STARmap, 2.4 nats instead of 6.3, without any biology). And it asks for the
    states of tokens only: nothing trains the projection to the embedding of the cell, nor a class token. Use it beside
    `stgraph.objectives.genes_from_cell.GenesFromCell`.

    The first token of each cell, its class token, is never hidden, nor are padding and mask. Cells in two views (see
    `stgraph.objectives.contrastive.DropoutPairs`) hide different genes in each if this comes after what doubled them,
    the same ones if it comes before.

    Parameters
    ----------
    mask_rate
        Share of the gene tokens of a batch that are hidden.
    mask_share, other_share
        Share of the hidden ones that become the mask token, and that become another gene.
    mask_token
        The mask token.
    special_tokens
        Tokens that are no genes, besides the first of each cell: padding and mask.
    weight
        Factor in the sum of losses.

    References
    ----------
    Devlin et al., BERT: pre-training of deep bidirectional transformers for language understanding (2019).
    Theodoris et al., Transfer learning enables predictions in network biology (2023).

    Examples
    --------
    >>> import torch
    >>> from stgraph.data.cell_batch import CellBatch
    >>> from stgraph.objectives.masked_gene import MaskedGene
    >>> cells = CellBatch(torch.tensor([9, 2, 3, 9, 4]), torch.tensor([0, 3, 5]), torch.tensor([0, 1]))
    >>> spoilt = MaskedGene(mask_share=1.0, other_share=0.0).corrupt(cells, torch.Generator().manual_seed(0))
    >>> spoilt.tokens.tolist(), spoilt.hidden_genes.truth.tolist()
    ([9, 2, 3, 9, 1], [4])
    """

    mask_rate: float = 0.15
    mask_share: float = 0.8
    other_share: float = 0.1
    mask_token: int = 1
    special_tokens: Sequence[int] = (0, 1)
    weight: float = 1.0

    name: ClassVar[str] = "masked_gene"
    reads_cell: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.mask_rate < 1:
            raise InputError(f"MaskedGene needs a mask_rate between 0 and 1, not {self.mask_rate}.")
        if min(self.mask_share, self.other_share) < 0 or self.mask_share + self.other_share > 1:
            raise InputError(
                f"MaskedGene needs shares of 0 or more that make at most 1, not mask_share={self.mask_share} and "
                f"other_share={self.other_share}."
            )

    def corrupt(self, batch: CellBatch, generator: torch.Generator) -> CellBatch:
        """Hide genes; what they were is in ``hidden_genes``."""
        is_gene = batch.genes(self.special_tokens)
        at = choose_cells(is_gene, self.mask_rate, generator).nonzero()[:, 0]
        truth = batch.tokens[at]
        draw = torch.rand(len(at), generator=generator).to(at.device)
        genes = torch.unique(batch.tokens[is_gene])
        another = torch.randint(max(len(genes), 1), (len(at),), generator=generator).to(at.device)
        shown = truth.clone()
        masked = draw < self.mask_share
        exchanged = ~masked & (draw < self.mask_share + self.other_share)
        shown[masked] = self.mask_token
        shown[exchanged] = genes[another[exchanged]]
        return replace(batch, tokens=batch.tokens.index_copy(0, at, shown), hidden_genes=Hidden(at, truth))

    def count(self, batch: CellBatch) -> Tensor:
        """How many genes are hidden."""
        return batch.tokens.new_tensor(len(_hidden(batch).at), dtype=torch.float32)

    def loss(self, model: Any, output: CellStates, batch: CellBatch) -> Tensor:
        """Cross entropy; the vocabulary is predicted at hidden genes only. 0 if nothing is hidden."""
        at, truth = _hidden(batch)
        logits: Tensor = model.predict_genes(output.token.index_select(0, at)).float()
        if len(at) == 0:
            return output.token.sum() * 0.0 + logits.sum() * 0.0
        error: Tensor = F.cross_entropy(logits, truth)
        return error


def _hidden(batch: CellBatch) -> Hidden:
    if batch.hidden_genes is None:
        raise InputError("No genes of this batch were hidden: MaskedGene judges what its corrupt has spoilt.")
    return batch.hidden_genes
