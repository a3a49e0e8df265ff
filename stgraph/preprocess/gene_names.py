"""Numbers of genes by any of the names they go by."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_VERSIONED = re.compile(r"(ENS[A-Z]*\d{6,})\.\d+", re.IGNORECASE)


@dataclass(frozen=True)
class GeneNames:
    """Looks genes up: by a name as it is, then without the version of an Ensembl id, then ignoring case.

    Parameters
    ----------
    numbers
        Number of each name, none of them negative; several names may have one.

    Examples
    --------
    >>> from stgraph.preprocess.gene_names import GeneNames
    >>> numbers, by_case = GeneNames({"MBP": 0, "ENSG00000197971": 0}).find(["Mbp", "ENSG00000197971.16", "PLP1"])
    >>> numbers.tolist(), by_case.tolist()
    ([0, 0, -1], [True, False, False])
    """

    numbers: Mapping[str, int]

    def find(self, genes: Iterable[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Numbers of genes.

        Parameters
        ----------
        genes
            G names.

        Returns
        -------
        numbers : ndarray
            (G,) int64, -1 where there is none, or where several genes go by a name if case is ignored.
        by_case : ndarray
            (G,) bool, whether it was found only by ignoring case.
        """
        exact, folded = self.numbers, self._folded
        numbers, by_case = [], []
        for gene in map(str, genes):
            name = gene if gene in exact else without_version(gene)
            by_case.append(name not in exact and folded.get(name.upper(), -1) >= 0)
            numbers.append(exact[name] if name in exact else folded.get(name.upper(), -1))
        return np.array(numbers, dtype=np.int64), np.array(by_case, dtype=bool)

    @cached_property
    def _folded(self) -> dict[str, int]:
        folded: dict[str, int] = {}
        for name, number in self.numbers.items():
            if folded.setdefault(name.upper(), number) != number:
                folded[name.upper()] = -1  # two genes go by it
        return folded


def without_version(gene: str) -> str:
    """An Ensembl id without its version; any other name as it is.

    Examples
    --------
    >>> from stgraph.preprocess.gene_names import without_version
    >>> without_version("ENSMUSG00000029580.15"), without_version("AC000123.1")
    ('ENSMUSG00000029580', 'AC000123.1')
    """
    versioned = _VERSIONED.fullmatch(gene)
    return versioned[1] if versioned else gene
