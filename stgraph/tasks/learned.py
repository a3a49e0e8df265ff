"""The models of stgraph as encoders of slices, to be judged beside simple ones."""

import difflib
import inspect
import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from stgraph.errors import InputError
from stgraph.graph.arguments import check_whole
from stgraph.tasks.fit import fit as fit_model
from stgraph.tasks.pretrained import Pretrained, from_pretrained
from stgraph.tasks.readouts import Readout, SideBySide

_NOT_SETTINGS = ("slices", "domains", "random_state", "progress", "on_step")
"""Arguments of `stgraph.fit` that say nothing about how a cell is described, or are given apart."""


class ModelEncoder(Protocol):
    """A `stgraph.baselines.base.SliceEncoder` that has a model of slice graphs inside.

    Attributes
    ----------
    pretrained
        The model, once fitted.
    """

    pretrained: Pretrained | None

    def fit(self, slices: Sequence[AnnData]) -> Self:
        """As in `stgraph.baselines.base.SliceEncoder`."""
        ...

    def transform(self, adata: AnnData) -> NDArray[np.float32]:
        """As in `stgraph.baselines.base.SliceEncoder`."""
        ...


@dataclass
class LearnedEncoder:
    """A model that `stgraph.fit` trains on the slices, without labels.

    Parameters
    ----------
    settings
        Arguments of `stgraph.fit`, by name: what the model, the graph, the objectives are.
        A `stgraph.training.untrained.Untrained` as ``trainer`` leaves the network as it was drawn.
    readout
        What is read out of the model: own features and context side by side, for the type
        of a cell is a matter of its own counts and its region one of its surroundings.
    random_state
        As in `stgraph.fit`.

    Attributes
    ----------
    pretrained
        The model, once fitted.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.tasks.learned import LearnedEncoder
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)
    >>> trainer = {"_target_": "stgraph.training.loop.Trainer", "max_steps": 2}
    >>> LearnedEncoder({"trainer": trainer}).fit(tissue).transform(tissue[0]).shape
    (200, 84)
    """

    # Built anew for each fit, for parts of a run keep what they learn.
    _as_configs_: ClassVar = ("settings",)

    settings: Mapping[str, Any] = field(default_factory=dict)
    readout: Readout = field(default_factory=SideBySide)
    random_state: int = 0
    pretrained: Pretrained | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        check_whole(self, "random_state", least=0)
        known = [name for name in inspect.signature(fit_model).parameters if name not in _NOT_SETTINGS]
        for name in self.settings:
            if name not in known:
                close = difflib.get_close_matches(str(name), known, n=1)
                hint = f" Did you mean '{close[0]}'?" if close else ""
                raise InputError(f"LearnedEncoder has no setting '{name}'.{hint} It takes: {', '.join(known)}.")

    def fit(self, slices: Sequence[AnnData]) -> Self:
        """Train a model on canonical slices; labels are never looked at.

        Parameters
        ----------
        slices
            Canonical slices, each one section.

        Returns
        -------
        LearnedEncoder
            Itself.

        Raises
        ------
        InputError
            If the slices or the settings cannot be used.
        TrainingError
            If the loss stops being finite.
        """
        result = fit_model(
            slices, **deepcopy(dict(self.settings)), domains=None, random_state=self.random_state, progress=False
        )
        self.readout.fit(result.pretrained, result.graphs.values())
        self.pretrained = result.pretrained
        return self

    def transform(self, adata: AnnData) -> NDArray[np.float32]:
        """Description (N, C) of the cells of one canonical slice."""
        return _described(self, adata)


@dataclass
class PretrainedEncoder:
    """A model that was saved before; fitting changes none of its weights.

    Parameters
    ----------
    folder
        A model directory, as ``stgraph fit`` writes it.
    readout
        As in `LearnedEncoder`.
    trust
        As in `stgraph.from_pretrained`.

    Attributes
    ----------
    pretrained
        The model, once fitted.
    """

    folder: str | os.PathLike[str]
    readout: Readout = field(default_factory=SideBySide)
    trust: Sequence[str] = ()
    pretrained: Pretrained | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.folder = os.fspath(self.folder)

    def fit(self, slices: Sequence[AnnData]) -> Self:
        """Load the model, see whether it can read the slices, and fit the readout, which only scales.

        Raises
        ------
        CheckpointError
            If the model directory cannot be used.
        InputError
            If the slices lack the genes of the model.
        """
        if not slices:
            raise InputError("PretrainedEncoder was given no slice to fit on.")
        pretrained = from_pretrained(self.folder, trust=self.trust)
        self.readout.fit(pretrained, [pretrained.graph(adata) for adata in slices])
        self.pretrained = pretrained
        return self

    def transform(self, adata: AnnData) -> NDArray[np.float32]:
        """Description (N, C) of the cells of one canonical slice."""
        return _described(self, adata)


def _described(encoder: LearnedEncoder | PretrainedEncoder, adata: AnnData) -> NDArray[np.float32]:
    model = encoder.pretrained
    if model is None:
        raise InputError(f"{type(encoder).__name__} was not fitted: call fit(slices) first.")
    return encoder.readout(model, model.graph(adata))
