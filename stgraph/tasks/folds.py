"""Which cells are learnt from, which choose, and which judge."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from stgraph.errors import InputError
from stgraph.tasks.target import Target

Masks = Mapping[str, NDArray[np.bool_]]
"""(N,) bool of each slice, by name; a slice that is not there has no such cells."""


@dataclass(frozen=True)
class Fold:
    """One division of the cells of a study.

    Parameters
    ----------
    name
        Of the fold.
    fit_on
        Slices that may be looked at, without labels, before the judged ones are seen.
    train, validation, test
        Cells whose labels are learnt from, cells that choose between settings, and cells
        that judge; no cell is in two of them, and slices of the first two are in ``fit_on``.

    Raises
    ------
    InputError
        If a cell is in two of them, or is learnt from in a slice that may not be looked at.
    """

    name: str
    fit_on: tuple[str, ...]
    train: Masks
    validation: Masks
    test: Masks

    def __post_init__(self) -> None:
        hidden = sorted({*self.train, *self.validation} - {*self.fit_on})
        if hidden:
            raise InputError(f"Fold '{self.name}' learns from cells of '{hidden[0]}', which is not in its fit_on.")
        kinds = (self.train, self.validation, self.test)
        for name in {name for masks in kinds for name in masks}:
            masks = [masks[name] for masks in kinds if name in masks]
            if (np.sum(masks, axis=0) > 1).any():
                raise InputError(f"Fold '{self.name}' has cells of '{name}' that both learn or choose and judge.")

    def of(self, target: Target) -> "Fold":
        """The same fold, of the cells whose truth is known."""

        def known(masks: Masks) -> dict[str, NDArray[np.bool_]]:
            kept = {name: mask & target.known(name) for name, mask in masks.items() if name in target.of}
            return {name: mask for name, mask in kept.items() if mask.any()}

        return Fold(self.name, self.fit_on, known(self.train), known(self.validation), known(self.test))

    def shown(self) -> "Fold":
        """The same fold as a learner gets it: it does not say which cells judge."""
        return Fold(self.name, self.fit_on, self.train, self.validation, {})


class Split(Protocol):
    """Divides the cells of a study into folds.

    Graphs are built of whole slices before that: a split only says whose labels count.

    Attributes
    ----------
    name
        Name in tables.
    leaks
        Whether neighbours of judged cells are learnt from, so that scores promise too much.
    """

    @property
    def name(self) -> str: ...  # noqa: D102  as above

    @property
    def leaks(self) -> bool: ...  # noqa: D102  as above

    def folds(self, slices: Mapping[str, AnnData], *, random_state: int = 0) -> list[Fold]:
        """The folds of canonical slices, by name."""
        ...
