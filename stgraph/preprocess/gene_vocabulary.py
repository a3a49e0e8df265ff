"""Which genes a model of gene tokens knows: their tokens, their medians, their names."""

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stgraph.errors import InputError, StgraphWarning
from stgraph.preprocess.gene_names import GeneNames
from stgraph.preprocess.gene_tables import read_table, write_table
from stgraph.preprocess.named_arrays import bytes_to_genes, genes_to_bytes

PAD, MASK, CLS = "<pad>", "<mask>", "<cls>"
"""Names of the special tokens: padding, a masked gene, and the class token before the genes of a cell."""


@dataclass(frozen=True)
class GeneVocabulary:
    """Tokens of genes, their medians over a corpus, and other names they go by.

    A gene is looked up by its id as it is; then without the version of an Ensembl id
    (``ENSG00000000003.15``); then as a name in ``names``; then, ignoring case, as either, if
    that is unambiguous. What was found by ignoring case is told in a `StgraphWarning`: names of
    mouse genes are often those of human genes in lower case, but ids with
    `stgraph.preprocess.orthologs.Orthologs` are surer.

    Parameters
    ----------
    tokens
        Token of each gene id, and of ``<pad>`` and ``<mask>``. ``<cls>`` gets the number after the last if it
        is not there, as in the published encoder.
    medians
        Median of the non-zero values of a gene over a corpus, where the counts of a cell sum to 10,000. A gene
        that has a token and no median is never emitted.
    names
        Gene id of further names, such as symbols.

    Raises
    ------
    InputError
        If a special token is missing, two genes have one token, a gene with a median has no token, or a median
        is not positive.

    Examples
    --------
    >>> from stgraph.preprocess.gene_vocabulary import GeneVocabulary
    >>> medians = {"ENSG00000000003": 2.0, "ENSG00000000005": 3.2}
    >>> vocabulary = GeneVocabulary.of_medians(medians, {"TSPAN6": "ENSG00000000003"})
    >>> vocabulary.find(["TSPAN6", "ENSG00000000005.6", "GAPDH"])
    array([ 2,  3, -1])
    >>> vocabulary.pad, vocabulary.mask, vocabulary.cls, vocabulary.num_tokens
    (0, 1, 4, 5)
    """

    tokens: Mapping[str, int]
    medians: Mapping[str, float]
    names: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tokens = {str(gene): int(token) for gene, token in self.tokens.items()}
        for special in (PAD, MASK):
            if special not in tokens:
                raise InputError(f"The vocabulary has no token '{special}': add it, with a number of its own.")
        tokens.setdefault(CLS, max(tokens.values()) + 1)
        if min(tokens.values()) < 0 or len(set(tokens.values())) < len(tokens):
            raise InputError("The tokens of a vocabulary must be different numbers, none of them negative.")
        medians = {str(gene): float(median) for gene, median in self.medians.items()}
        without = [gene for gene in medians if gene not in tokens or gene.startswith("<")]
        if without:
            raise InputError(f"{len(without)} genes have a median and no token, the first '{without[0]}'.")
        wrong = [gene for gene, median in medians.items() if not (np.isfinite(median) and median > 0)]
        if wrong:
            raise InputError(f"The median of '{wrong[0]}' is {medians[wrong[0]]}, but it must be positive.")
        object.__setattr__(self, "tokens", tokens)
        object.__setattr__(self, "medians", medians)
        # The published table has an empty name, which names no gene.
        object.__setattr__(self, "names", {str(name): str(gene) for name, gene in self.names.items() if name})

    @classmethod
    def of_medians(cls, medians: Mapping[str, float], names: Mapping[str, str] | None = None) -> Self:
        """A vocabulary of the genes of a table of medians.

        Parameters
        ----------
        medians
            As `stgraph.preprocess.gene_medians.gene_medians` gives them. Genes get tokens from 2 on, in
            their order here, and ``<cls>`` the one after them.
        names
            As above.
        """
        genes = {gene: number for number, gene in enumerate(medians, start=2)}
        return cls({PAD: 0, MASK: 1} | genes, medians, names or {})

    @classmethod
    def read(
        cls,
        folder: str | os.PathLike[str],
        *,
        tokens: str = "*token_dictionary*.tsv*",
        medians: str = "*gene_median*.tsv*",
        names: str = "*gene_name_id*.tsv*",
    ) -> Self:
        """Read a vocabulary as Geneformer and SToFM ship it, as tables of two columns without header.

        Parameters
        ----------
        folder
            Holds the tables, plain or gzipped.
        tokens, medians, names
            Patterns of their file names, each of one file; there may be none of names.

        Raises
        ------
        InputError
            If a table is missing, there are several, or one cannot be read.
        """
        columns = _table(folder, tokens), _table(folder, medians), _table(folder, names, optional=True)
        try:
            numbers = {gene: int(token) for gene, token in columns[0].items()}
            values = {gene: float(median) for gene, median in columns[1].items()}
        except ValueError as error:
            raise InputError(f"A table of '{folder}' has something else than a number: {error}.") from error
        return cls(numbers, values, columns[2])

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write the three tables into a folder, where `read` finds them."""
        write_table(Path(folder, "token_dictionary.tsv.gz"), self.tokens)
        write_table(Path(folder, "gene_median.tsv.gz"), self.medians)
        write_table(Path(folder, "gene_name_id.tsv.gz"), self.names)

    @property
    def pad(self) -> int:
        """Token of padding."""
        return self.tokens[PAD]

    @property
    def mask(self) -> int:
        """Token of a masked gene."""
        return self.tokens[MASK]

    @property
    def cls(self) -> int:
        """Token that stands before the genes of a cell."""
        return self.tokens[CLS]

    @property
    def num_tokens(self) -> int:
        """Rows that a table of embeddings needs."""
        return max(self.tokens.values()) + 1

    @cached_property
    def genes(self) -> list[str]:
        """Ids of the genes that have a token, without the special tokens, by token."""
        return sorted((gene for gene in self.tokens if not gene.startswith("<")), key=self.tokens.__getitem__)

    @cached_property
    def median_of_token(self) -> NDArray[np.float64]:
        """(num_tokens,) median of the gene of each token; NaN where there is none."""
        medians = np.full(self.num_tokens, np.nan)
        for gene, median in self.medians.items():
            medians[self.tokens[gene]] = median
        return medians

    def find(self, genes: Iterable[str], *, ignore_case: bool = True) -> NDArray[np.int64]:
        """Token of each gene, -1 where there is none; see above for what counts as a name.

        Parameters
        ----------
        genes
            G ids or names, mixed if need be.
        ignore_case
            Whether a name may differ in case.

        Returns
        -------
        ndarray
            (G,) int64.
        """
        tokens, by_case = self._lookup.find(genes)
        return tokens if ignore_case else np.where(by_case, -1, tokens)

    def resolve(
        self, genes: Sequence[str], *, counted: NDArray[np.bool_] | None = None, name: str = "The slice"
    ) -> NDArray[np.int64]:
        """The same as `find`, telling what was not found and what was found by ignoring case.

        Parameters
        ----------
        genes
            G ids or names.
        counted
            (G,) which of them have any counts: nothing is lost with the others. None for all.
        name
            Of the slice, for the messages.

        Returns
        -------
        ndarray
            (G,) int64.

        Raises
        ------
        InputError
            If none is found.
        """
        tokens, by_case = self._lookup.find(genes)
        missing = np.flatnonzero(tokens < 0)
        if len(missing) == len(tokens):
            raise InputError(
                f"{name} has {len(tokens)} genes, none of which is in the vocabulary (its first is "
                f"'{next(iter(genes), '')}', the vocabulary's '{next(iter(self.genes), '')}'): use the same kind of "
                "name, or orthologs if it is of another species."
            )
        if counted is not None:
            missing = missing[counted[missing]]
        if len(missing):
            _warn(
                f"{name} has {len(missing)} genes of {len(tokens)} that are not in the vocabulary and get no token",
                genes,
                missing,
            )
        if by_case.any():
            found = np.flatnonzero(by_case)
            _warn(
                f"{name} has {len(found)} genes that are in the vocabulary only if case is ignored; "
                "for mouse, ids with a table of orthologs are surer",
                genes,
                found,
            )
        return tokens

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything, as named arrays; names as UTF-8 bytes."""
        medians = np.array([self.medians.get(gene, np.nan) for gene in self.tokens])
        return {
            "genes": genes_to_bytes(list(self.tokens)),
            "tokens": np.array(list(self.tokens.values()), dtype=np.int64),
            "medians": medians,
            "names": genes_to_bytes(list(self.names)),
            "names_of": genes_to_bytes(list(self.names.values())),
        }

    @classmethod
    def load_state(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        """The vocabulary that gave a `state`.

        Raises
        ------
        InputError
            If an array is missing or of the wrong shape.
        """
        needed = ["genes", "medians", "names", "names_of", "tokens"]
        if sorted(state) != needed:
            raise InputError(f"The state of GeneVocabulary must hold {needed}, not {sorted(state)}.")
        genes, names, of = (bytes_to_genes(state[key]) for key in ("genes", "names", "names_of"))
        if not len(genes) == len(state["tokens"]) == len(state["medians"]) or len(names) != len(of):
            raise InputError("The state of GeneVocabulary has arrays of shapes that do not fit together.")
        known = ~np.isnan(state["medians"])
        tokens = dict(zip(genes, state["tokens"].tolist(), strict=True))
        medians = {
            gene: float(median) for gene, median, there in zip(genes, state["medians"], known, strict=True) if there
        }
        return cls(tokens, medians, dict(zip(names, of, strict=True)) if len(state["names"]) else {})

    @cached_property
    def _lookup(self) -> GeneNames:
        ids = {gene: self.tokens[gene] for gene in self.genes}
        return GeneNames({name: ids[gene] for name, gene in self.names.items() if gene in ids} | ids)


def _table(folder: str | os.PathLike[str], pattern: str, *, optional: bool = False) -> dict[str, str]:
    found = sorted(Path(folder).glob(pattern))
    if not found and optional:
        return {}
    if len(found) != 1:
        raise InputError(
            f"'{folder}' has {len(found)} files '{pattern}', but one is needed"
            + (f": name it ({', '.join(path.name for path in found)})." if found else ".")
        )
    return read_table(found[0])


def _warn(text: str, genes: Sequence[str], which: NDArray[np.int64]) -> None:
    shown = ", ".join(f"'{genes[i]}'" for i in which[:3]) + (", ..." if len(which) > 3 else "")
    warnings.warn(f"{text} ({shown}).", StgraphWarning, stacklevel=4)
