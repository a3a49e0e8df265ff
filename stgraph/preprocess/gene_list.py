"""An ordered list of genes: the vocabulary of models that read counts gene by gene."""

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from stgraph.errors import InputError, StgraphWarning
from stgraph.preprocess.count_matrix import counted_genes
from stgraph.preprocess.gene_alignment import GeneAlignment, align_columns
from stgraph.preprocess.gene_names import GeneNames
from stgraph.preprocess.gene_tables import read_table, write_table
from stgraph.preprocess.gene_values import slice_name
from stgraph.preprocess.named_arrays import bytes_to_genes, genes_to_bytes
from stgraph.preprocess.orthologs import Orthologs
from stgraph.preprocess.slice_genes import name_columns

_HEADER = "gene_name", "index"


@dataclass(frozen=True)
class GeneList:
    """Genes in the order that a model numbers them in, 0 to G - 1.

    Behind the genes come two tokens that tell how deeply a cell was measured, and padding, which only published
    weights have a row for.

    Parameters
    ----------
    genes
        G names, all different.
    names
        Gene of further names, as Ensembl ids or old symbols. A name that is itself in the list is that gene.

    Raises
    ------
    InputError
        If there are no genes, one is there twice, or a further name is of a gene that is not there.

    Examples
    --------
    >>> from stgraph.preprocess.gene_list import GeneList
    >>> genes = GeneList(["MBP", "PLP1", "SNAP25"])
    >>> genes.find(["SNAP25", "Mbp", "ACTB"]).tolist(), genes.depth_tokens, genes.pad, genes.vocabulary_size
    ([2, 0, -1], (3, 4), 5, 6)
    """

    genes: Sequence[str] = field(repr=False)
    names: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        genes = tuple(map(str, self.genes))
        if not genes:
            raise InputError("A GeneList needs at least one gene.")
        there = set(genes)
        if len(there) < len(genes):
            twice = next(gene for i, gene in enumerate(genes) if gene in genes[:i])
            raise InputError(f"A GeneList has '{twice}' twice: each gene needs a number of its own.")
        names = {str(name): str(gene) for name, gene in self.names.items() if name not in there}
        unknown = [name for name, gene in names.items() if gene not in there]
        if unknown:
            raise InputError(
                f"A GeneList has {len(unknown)} further names of genes that are not in it, the first "
                f"'{unknown[0]}' of '{names[unknown[0]]}': leave them out."
            )
        object.__setattr__(self, "genes", genes)
        object.__setattr__(self, "names", names)

    @classmethod
    def read(cls, path: str | os.PathLike[str], *, ensembl_ids: str | os.PathLike[str] | None = None) -> Self:
        """Read a table of names and numbers, as that of the 19,264 genes of scFoundation and AIDO.Tissue.

        Parameters
        ----------
        path
            Two tab-separated columns ``gene_name`` and ``index``, plain or gzipped; the header may be missing.
        ensembl_ids
            A table of symbols and Ensembl ids without header, as Geneformer ships it, for slices whose genes go
            by ids. What is not in the list is left out.

        Raises
        ------
        InputError
            If a table cannot be read, or the numbers are not 0 to G - 1.
        """
        table = read_table(path)
        table.pop(_HEADER[0], None)
        numbers = [int(number) if number.isdecimal() else -1 for number in table.values()]
        if sorted(numbers) != list(range(len(numbers))):
            raise InputError(f"'{path}' must number its {len(numbers)} genes from 0 to {len(numbers) - 1}, each once.")
        # By number: a table that was sorted otherwise must not permute the genes.
        genes = [gene for _, gene in sorted(zip(numbers, table, strict=True))]
        ids = {} if ensembl_ids is None else read_table(ensembl_ids)
        there = set(genes)
        return cls(genes, {number: gene for gene, number in ids.items() if gene in there})

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the table that `read` reads, without further names; ``path`` is to end in ``.gz``."""
        if Path(path).suffix != ".gz":
            raise InputError(f"A GeneList is written gzipped: let the name of '{path}' end in .gz.")
        write_table(path, {_HEADER[0]: _HEADER[1]} | {gene: number for number, gene in enumerate(self.genes)})

    @classmethod
    def of_slices(cls, slices: Sequence[AnnData]) -> Self:
        """All genes that any of some slices has measured, by name, where there is no table.

        The order of the slices does not matter. A slice that shares no gene with another is told of, for then the
        names are probably of another kind.

        Parameters
        ----------
        slices
            With names of genes in ``var_names``.
        """
        where: dict[str, int] = {}
        for adata in slices:
            for gene in set(map(str, adata.var_names)):
                where[gene] = where.get(gene, 0) + 1
        for adata in slices:
            if len(slices) > 1 and all(where[gene] == 1 for gene in map(str, adata.var_names)):
                warnings.warn(
                    f"{slice_name(adata)} shares no gene with another slice (its first is '{adata.var_names[0]}'): "
                    "use the same kind of gene name in all.",
                    StgraphWarning,
                    stacklevel=2,
                )
        return cls(sorted(where))

    @property
    def num_genes(self) -> int:
        """G."""
        return len(self.genes)

    @property
    def depth_tokens(self) -> tuple[int, int]:
        """The tokens "T" and "S" that tell the depth of a cell."""
        return self.num_genes, self.num_genes + 1

    @property
    def pad(self) -> int:
        """Token of padding."""
        return self.num_genes + 2

    @property
    def vocabulary_size(self) -> int:
        """Rows that a table of embeddings needs."""
        return self.num_genes + 3

    def find(self, genes: Iterable[str], *, ignore_case: bool = True) -> NDArray[np.int64]:
        """Number of each gene, -1 where there is none.

        Parameters
        ----------
        genes
            n names: of the list, or further ones; versions of Ensembl ids are ignored.
        ignore_case
            Whether a name may differ in case, if that is unambiguous.

        Returns
        -------
        ndarray
            (n,) int64.
        """
        numbers, by_case = self._lookup.find(genes)
        return numbers if ignore_case else np.where(by_case, -1, numbers)

    def align(
        self,
        genes: Sequence[str],
        *,
        counted: NDArray[np.bool_] | None = None,
        max_unknown: float = 0.5,
        name: str = "The slice",
    ) -> GeneAlignment:
        """Which gene of the list each column of a slice is, telling what is lost and what was guessed.

        Parameters
        ----------
        genes
            n names of columns.
        counted
            (n,) bool, which of them have any counts: nothing is lost with the others. None for all.
        max_unknown
            Greatest share of them that may be unknown.
        name
            Of the slice, for messages.

        Returns
        -------
        GeneAlignment
            A `StgraphWarning` tells of genes with counts that are not in the list, of those found by ignoring case,
            and of columns that are summed.

        Raises
        ------
        InputError
            If more than ``max_unknown`` of the genes with counts are not in the list.
        """
        names = list(map(str, genes))
        return align_columns(self, [names], names, counted=counted, max_unknown=max_unknown, name=name)

    def align_slice(
        self, adata: AnnData, *, orthologs: Orthologs | None = None, max_unknown: float = 0.5
    ) -> GeneAlignment:
        """The same for a slice, whose genes may go by any of the ids and names it has.

        Parameters
        ----------
        adata
            Raw counts in ``X``. Looked at are the columns of
            `stgraph.preprocess.slice_genes.slice_genes`, for each gene first as they are and then ignoring case.
        orthologs
            For a slice of another species.
        max_unknown
            As of `align`.

        Raises
        ------
        InputError
            As of `align`.
        """
        counted = None if adata.X is None else counted_genes(adata.X)
        columns, shown, name = name_columns(adata, orthologs), list(map(str, adata.var_names)), slice_name(adata)
        return align_columns(self, columns, shown, counted=counted, max_unknown=max_unknown, name=name)

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything, as named arrays; names as UTF-8 bytes."""
        return {
            "genes": genes_to_bytes(self.genes),
            "names": genes_to_bytes(list(self.names)),
            "names_of": genes_to_bytes(list(self.names.values())),
        }

    @classmethod
    def load_state(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        """The list that gave a `state`.

        Raises
        ------
        InputError
            If an array is missing or of the wrong shape.
        """
        needed = ["genes", "names", "names_of"]
        if sorted(state) != needed:
            raise InputError(f"The state of GeneList must hold {needed}, not {sorted(state)}.")
        genes, names, of = (bytes_to_genes(state[key]) for key in needed)
        if len(names) != len(of):
            raise InputError("The state of GeneList has arrays of shapes that do not fit together.")
        return cls(genes, dict(zip(names, of, strict=True)) if len(state["names"]) else {})

    @cached_property
    def _lookup(self) -> GeneNames:
        numbers = {gene: number for number, gene in enumerate(self.genes)}
        return GeneNames({name: numbers[gene] for name, gene in self.names.items()} | numbers)
