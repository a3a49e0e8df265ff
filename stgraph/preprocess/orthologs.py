"""Genes of one species by the ids of another."""

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
import scipy.sparse as sp

from stgraph.errors import InputError, StgraphWarning
from stgraph.preprocess.count_matrix import count_matrix
from stgraph.preprocess.gene_names import without_version
from stgraph.preprocess.gene_tables import read_table


@dataclass(frozen=True)
class Orthologs:
    """Ids of genes in another species, as human ids of mouse genes.

    Several genes may have one ortholog.

    Parameters
    ----------
    ids
        Id there of an id here. An id that is not here stays as it is.

    Examples
    --------
    >>> from stgraph.preprocess.orthologs import Orthologs
    >>> to_human = Orthologs({"ENSMUSG00000029580": "ENSG00000075624"})
    >>> to_human.translate(["ENSMUSG00000029580.15", "ENSMUSG00000000001"])
    ['ENSG00000075624', 'ENSMUSG00000000001']
    """

    ids: Mapping[str, str] = field(repr=False)

    def __post_init__(self) -> None:
        if not self.ids:
            raise InputError("A table of orthologs must not be empty.")
        object.__setattr__(self, "ids", dict(self.ids))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read a table of two columns without header: the id here, the id there.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        return cls(read_table(path))

    def translate(self, genes: Iterable[str]) -> list[str]:
        """Ids there; versions of Ensembl ids are ignored, and what has no ortholog stays as it is."""
        return [self.ids.get(gene) or self.ids.get(without_version(gene), gene) for gene in map(str, genes)]

    def translate_counts(
        self,
        counts: Any,
        genes: Sequence[str],
        *,
        collisions: Literal["sum", "keep"] = "sum",
        name: str = "The slice",
    ) -> tuple[sp.csr_matrix, list[str]]:
        """Counts of the genes there.

        `stgraph.preprocess.rank_values.RankValueTokenizer` sums columns of one token by itself; this is for
        other uses.

        Parameters
        ----------
        counts
            (N, G) raw counts.
        genes
            G ids here.
        collisions
            Columns that get one id are summed, before anything is normalised; or "keep", and the id
            occurs several times, as in SToFM's preprocessing.
        name
            Of the slice, for the messages.

        Returns
        -------
        counts : csr_matrix
            (N, G') with G' of G columns left.
        genes : list of str
            G' ids, in the order of the first column of each. A `StgraphWarning` says how many columns were summed
            and how many have no ortholog.

        Raises
        ------
        InputError
            If no gene has an ortholog, or ``counts`` holds no counts.

        Examples
        --------
        >>> import numpy as np
        >>> from stgraph.preprocess.orthologs import Orthologs
        >>> counts, genes = Orthologs({"a": "A", "b": "B"}).translate_counts(np.array([[3, 4]]), ["a", "b"])
        >>> counts.toarray(), genes
        (array([[3, 4]]), ['A', 'B'])
        """
        matrix, there = count_matrix(counts, genes, name=name), self.translate(genes)
        known = set(self.ids.values())
        strangers = sum(gene not in known for gene in there)
        if strangers == len(there):
            raise InputError(
                f"{name} has {len(there)} genes and none with an ortholog (its first is '{next(iter(genes), '')}', "
                f"the table's '{next(iter(self.ids))}'): use the same kind of id."
            )
        names = list(dict.fromkeys(there))
        told = [f"{strangers} have no ortholog and keep their id"] if strangers else []
        if len(names) < len(there):
            what = "their counts are summed" if collisions == "sum" else "they are left as they are"
            told.append(f"{len(there)} have {len(names)} ids, and where several have one, {what}")
        if told:
            warnings.warn(f"{name} has {len(there)} genes: {'; '.join(told)}.", StgraphWarning, stacklevel=2)
        if collisions == "keep":
            return matrix, there
        target = {gene: column for column, gene in enumerate(names)}
        ones, rows = np.ones(len(there), dtype=matrix.dtype), np.arange(len(there))
        sums = sp.csr_matrix((ones, (rows, [target[gene] for gene in there])), shape=(len(there), len(names)))
        return sp.csr_matrix(matrix @ sums), names
