"""Which gene of a list each column of a slice is, and what was lost or renamed on the way."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stgraph.errors import InputError, StgraphWarning
from stgraph.preprocess.slice_genes import KnowsGenes

_SHOWN = 5
"""Names in a message."""


class ListedGenes(KnowsGenes, Protocol):
    """A vocabulary that numbers its G genes in order: `stgraph.preprocess.gene_list.GeneList`."""

    @property
    def genes(self) -> Sequence[str]:
        """Names, by number."""
        ...


@dataclass(frozen=True, eq=False)
class GeneAlignment:
    """What `stgraph.preprocess.gene_list.GeneList.align` found.

    Attributes
    ----------
    name
        Of the slice.
    gene_of_column
        (n,) int64, the gene of each of n columns, by its place in the list; -1 for what is not in the list.
    num_genes
        G, length of the list.
    missing
        Genes of the list that the slice has not measured. A panel of some hundred lacks most; a model of expressed
        genes does not see that they are missing.
    extra
        Names of columns that are not in the list.
    renamed
        Gene of each column that goes by another name in the slice.
    duplicated
        Columns of each gene that has several; their counts are summed.

    Examples
    --------
    >>> from stgraph.preprocess.gene_list import GeneList
    >>> genes = GeneList(["MBP", "PLP1", "SNAP25"], names={"ENSG00000197971": "MBP"})
    >>> found = genes.align(["SNAP25", "ENSG00000197971.16"], name="s1")
    >>> found.gene_of_column.tolist(), found.panel.tolist(), found.missing, found.renamed
    ([2, 0], [0, 2], ('PLP1',), {'ENSG00000197971.16': 'MBP'})
    >>> print(found.summary())
    s1: 2 of its 2 genes are in the list (1 under another name); 1 of 3 genes of the list are not measured.
    """

    name: str
    gene_of_column: NDArray[np.int64]
    num_genes: int
    missing: tuple[str, ...] = field(repr=False)
    extra: tuple[str, ...] = field(repr=False)
    renamed: Mapping[str, str] = field(repr=False)
    duplicated: Mapping[str, tuple[str, ...]] = field(repr=False)

    @cached_property
    def panel(self) -> NDArray[np.int64]:
        """Genes that were measured, by their place in the list, rising."""
        return np.unique(self.gene_of_column[self.gene_of_column >= 0])

    def summary(self) -> str:
        """What was found, in a sentence."""
        columns, extra = len(self.gene_of_column), len(self.extra)
        changes = []
        if self.renamed:
            changes.append(f"{len(self.renamed)} under another name")
        if self.duplicated:
            changes.append(f"{len(self.duplicated)} of several columns, which are summed")
        told = f" ({', '.join(changes)})" if changes else ""
        lost = f", {extra} are not" if extra else ""
        return (
            f"{self.name}: {columns - extra} of its {columns} genes are in the list{told}{lost}; "
            f"{len(self.missing)} of {self.num_genes} genes of the list are not measured."
        )


def align_columns(
    listed: ListedGenes,
    columns: Sequence[Sequence[str]],
    shown: Sequence[str],
    *,
    counted: NDArray[np.bool_] | None = None,
    max_unknown: float = 0.5,
    name: str = "The slice",
) -> GeneAlignment:
    """Find the genes of a slice in a list, telling what is lost and what was guessed.

    Parameters
    ----------
    listed
        The genes of a model.
    columns
        Of n names each: what the n genes of the slice go by. For each gene the first that is known as it is decides,
        then the first that is known if case is ignored.
    shown
        What to call the n genes of the slice.
    counted, max_unknown, name
        As of `stgraph.preprocess.gene_list.GeneList.align`.

    Returns
    -------
    GeneAlignment
        With warnings as of `stgraph.preprocess.gene_list.GeneList.align`.

    Raises
    ------
    InputError
        As of `stgraph.preprocess.gene_list.GeneList.align`.
    """
    number, guessed = _resolved(listed, columns)
    genes, known = listed.genes, _where(number >= 0)
    # Of a slice without any counts, all genes matter.
    counts = np.ones(len(number), dtype=bool) if counted is None or not counted.any() else counted
    _check_unknown([shown[i] for i in _where((number < 0) & counts)], int(counts.sum()), max_unknown, genes, name)
    if guessed.any():
        pairs = (f"'{shown[i]}' as '{genes[number[i]]}'" for i in _where(guessed))
        _warn(
            f"{name} has {guessed.sum()} genes that are in the list only if case is ignored ({_some(pairs)}); "
            "for another species, ids with a table of orthologs are surer."
        )
    duplicated: dict[str, tuple[str, ...]] = {}
    for gene in _where(np.bincount(number[known], minlength=1) > 1):
        duplicated[genes[gene]] = tuple(shown[i] for i in _where(number == gene))
    if duplicated:
        pairs = (f"{' and '.join(of)} are '{gene}'" for gene, of in duplicated.items())
        _warn(f"{name} has {len(duplicated)} genes in several columns ({_some(pairs)}); their counts are summed.")
    measured = set(number.tolist())
    return GeneAlignment(
        name=name,
        gene_of_column=number,
        num_genes=len(genes),
        missing=tuple(gene for i, gene in enumerate(genes) if i not in measured),
        extra=tuple(shown[i] for i in _where(number < 0)),
        renamed={shown[i]: genes[number[i]] for i in known if shown[i] != genes[number[i]]},
        duplicated=duplicated,
    )


def _resolved(listed: ListedGenes, columns: Sequence[Sequence[str]]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Number of each gene by the first column that knows it, and whether case was ignored."""
    number = np.full(len(columns[0]), -1, dtype=np.int64)
    guessed = np.zeros(len(number), dtype=bool)
    for ignore_case in (False, True):
        for column in columns:
            found = listed.find(column, ignore_case=ignore_case)
            new = (number < 0) & (found >= 0)
            number[new], guessed[new] = found[new], ignore_case
    return number, guessed


def _where(mask: NDArray[np.bool_]) -> list[int]:
    places: list[int] = np.flatnonzero(mask).tolist()
    return places


def _check_unknown(lost: list[str], counted: int, max_unknown: float, genes: Sequence[str], name: str) -> None:
    if not 0 <= max_unknown <= 1:
        raise InputError(f"max_unknown is a share of genes, from 0 to 1, not {max_unknown!r}.")
    if not lost:
        return
    told = f"{name} has {len(lost)} genes with counts, of {counted}, that are not in the list"
    unknown = _some(f"'{gene}'" for gene in lost)
    if len(lost) > max_unknown * counted:
        known = _some(f"'{gene}'" for gene in genes)
        raise InputError(
            f"{told} of {len(genes)} ({unknown}; the list has {known}): give the same kind of name, as symbols in "
            "var['gene_symbol'] or a table of ids with the list; orthologs for another species; or raise max_unknown."
        )
    _warn(f"{told} and get no token ({unknown}).")


def _some(texts: Iterable[str]) -> str:
    """The first few."""
    listed = list(texts)
    return ", ".join(listed[:_SHOWN]) + (", ..." if len(listed) > _SHOWN else "")


def _warn(text: str) -> None:
    warnings.warn(text, StgraphWarning, stacklevel=4)
