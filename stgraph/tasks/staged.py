"""A model that is trained in stages, as an encoder of slices."""

import inspect
import tempfile
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from stgraph.errors import InputError
from stgraph.graph.arguments import check_whole
from stgraph.tasks.pretrain import pretrain
from stgraph.tasks.pretrained import Pretrained
from stgraph.tasks.readouts import Context, Readout

_NOT_SETTINGS = ("slices", "folder", "domains", "random_state", "redo", "watch")


@dataclass
class StagedEncoder:
    """A model that `stgraph.tasks.pretrain.pretrain` trains on the slices, without labels.

    Parameters
    ----------
    settings
        Arguments of `pretrain`, by name: encoder, builder, virtual_cells, partitioner, model and stages at least, best
        as configs.
    readout
        What is read out of the model; `stgraph.tasks.readouts.Own` for the features of cells by themselves.
    random_state
        Seed of the weights of the graph model; encoder and trainers have seeds of their own.

    Attributes
    ----------
    pretrained
        The model, once fitted.

    Raises
    ------
    InputError
        If a setting is unknown or missing.

    Examples
    --------
    >>> import stgraph
    >>> from stgraph.tasks.staged import StagedEncoder
    >>> from stgraph.tasks.train_graphs import TrainGraphs
    >>> from stgraph.training.loop import Trainer
    >>> settings = {
    ...     "encoder": {"_target_": "stgraph.preprocess.encoder.LogPCA"},
    ...     "builder": {"_target_": "stgraph.graph.builders.KNN"},
    ...     "virtual_cells": None,
    ...     "partitioner": {"_target_": "stgraph.partition.metis.Metis"},
    ...     "model": {"_target_": "stgraph.models.se2_transformer.SE2Transformer"},
    ...     "stages": {"spatial": TrainGraphs(trainer=Trainer(max_steps=2, warmup_steps=1), epochs=None)},
    ... }
    >>> tissue = stgraph.synthetic_tissue(n_cells=200, n_genes=60)
    >>> StagedEncoder(settings).fit(tissue).transform(tissue[0]).shape
    (200, 64)
    """

    # Built anew for each fit, for parts of a run keep what they learn.
    _as_configs_: ClassVar = ("settings",)

    settings: Mapping[str, Any]
    readout: Readout = field(default_factory=Context)
    random_state: int = 0
    pretrained: Pretrained | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        check_whole(self, "random_state", least=0)
        known = {
            name: each for name, each in inspect.signature(pretrain).parameters.items() if name not in _NOT_SETTINGS
        }
        if unknown := sorted(set(self.settings) - set(known)):
            raise InputError(f"StagedEncoder has no setting '{unknown[0]}'. It takes: {', '.join(known)}.")
        needed = [name for name, each in known.items() if each.default is inspect.Parameter.empty]
        if missing := [name for name in needed if name not in self.settings]:
            raise InputError(f"StagedEncoder needs the settings {', '.join(missing)}.")

    def fit(self, slices: Sequence[AnnData]) -> Self:
        """Train on canonical slices, in a folder that is thrown away; labels are never looked at.

        Raises
        ------
        InputError
            If the slices or the settings cannot be used.
        TrainingError
            If a loss stops being finite.
        """
        with tempfile.TemporaryDirectory() as folder:
            result = pretrain(slices, folder, **deepcopy(dict(self.settings)), random_state=self.random_state)
        self.readout.fit(result.pretrained, result.graphs.values())
        self.pretrained = result.pretrained
        return self

    def transform(self, adata: AnnData) -> NDArray[np.float32]:
        """Description (N, C) of the cells of one canonical slice."""
        if self.pretrained is None:
            raise InputError("StagedEncoder was not fitted: call fit(slices) first.")
        return self.readout(self.pretrained, self.pretrained.graph(adata))
