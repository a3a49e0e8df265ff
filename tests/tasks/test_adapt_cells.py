"""What the default objectives make of a drawn network of cells."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import stgraph
from stgraph._config import instantiate
from stgraph.cli.compose import compose_config
from stgraph.data.cell_sequences import CellSequences
from stgraph.errors import InputError
from stgraph.objectives.base import WeightedSum
from stgraph.objectives.genes_from_cell import GenesFromCell
from stgraph.objectives.masked_gene import MaskedGene
from stgraph.objectives.masked_value import MaskedValue
from stgraph.tasks.adapt_cells import AdaptCells
from stgraph.tasks.rank_cells import RankCells
from stgraph.tasks.stage_plan import objective_list
from stgraph.training.loop import Trainer
from stgraph.training.stages import run_stages

SMALL = {"out_channels": 32, "hidden_channels": 32, "num_layers": 1, "heads": 2, "ffn_channels": 64}


class Run:
    """As much of a `stgraph.tasks.staged_run.StagedRun` as the stage asks for."""

    def __init__(self, cells, slices):
        self.cells = cells
        self._tokens = {str(number): cells.tokenize(adata) for number, adata in enumerate(slices)}

    def tokens(self):
        return self._tokens

    def inputs_of_cells(self):
        return {}


def quietly(make):
    """Networks as they were drawn, and genes without counts, are told; they are not what is tested here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


@pytest.fixture(scope="module")
def tissue():
    return stgraph.synthetic_tissue(n_cells=900, n_genes=120, n_slices=1)[0]


def adapted(tissue, folder, steps, **options):
    encoder = quietly(lambda: RankCells(settings=SMALL, max_length=64).fit([tissue]))
    trainer = Trainer(max_steps=steps, lr=3e-3, warmup_steps=min(steps - 1, 10), grad_clip=1.0, accelerator="cpu")
    plan = AdaptCells(trainer=trainer, epochs=None, max_tokens=4096, max_cells=96, **options)
    run_stages([plan.stage("adapt", Run(encoder, [tissue]))], folder)
    return encoder


def score(encoder, tissue):
    """Macro F1 of cell types by a linear classifier of one half of the cells, on the other."""
    x, y = quietly(lambda: encoder.transform(tissue)), tissue.obs["cell_type"].astype(str).to_numpy()
    half = np.random.default_rng(0).random(len(x)) < 0.5
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300)).fit(x[half], y[half])
    return f1_score(y[~half], head.predict(x[~half]), average="macro")


@pytest.mark.slow
def test_cell_types_are_told_better_than_by_the_drawn_network(tissue, tmp_path):
    drawn = quietly(lambda: RankCells(settings=SMALL, max_length=64).fit([tissue]))
    before, after = score(drawn, tissue), score(adapted(tissue, tmp_path / "run", steps=200), tissue)
    assert after > before + 0.1, (before, after)


def test_features_are_scaled_anew(tissue, tmp_path):
    x = quietly(lambda: adapted(tissue, tmp_path / "mean", steps=3).transform(tissue))
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(x.var(axis=0).mean(), 1, atol=1e-3)


def test_what_was_scaled_is_what_the_stage_keeps(tissue, tmp_path):
    encoder = adapted(tissue, tmp_path / "run", steps=3)
    again = adapted(tissue, tmp_path / "run", steps=3)  # read, not trained
    assert torch.equal(again.network.feature_mean, encoder.network.feature_mean)
    np.testing.assert_array_equal(*(quietly(lambda each=each: each.transform(tissue)) for each in (encoder, again)))


def test_the_default_objectives_train_the_embedding(tissue):
    encoder = quietly(lambda: RankCells(settings=SMALL, max_length=64).fit([tissue]))
    batch = CellSequences([encoder.tokenize(tissue)])[np.arange(20)]
    objective = WeightedSum(objective_list(AdaptCells().objectives))
    objective(encoder.network.train(), batch, torch.Generator().manual_seed(0))["loss"].backward()
    assert encoder.network.cell_proj.weight.grad.abs().sum() > 0
    spoilt = objective.corrupt(batch, torch.Generator().manual_seed(0))
    first, second = spoilt.tokens[: spoilt.offsets[20]], spoilt.tokens[spoilt.offsets[20] :]
    assert first.tolist() != second.tolist()  # two views that lack different genes


def test_the_recipe_has_the_default_objectives():
    plan = instantiate(compose_config("train", ["experiment=stofm", "out=o", "data.files=a"])["stages"]["adapt"])
    assert objective_list(plan.objectives) == objective_list(AdaptCells().objectives)


def test_objectives_that_never_read_the_embedding_are_refused():
    for objectives in ([MaskedGene()], {"a": MaskedGene(), "b": None}, [MaskedGene(), MaskedValue()]):
        with pytest.raises(InputError, match=r"AdaptCells has only MaskedGene.* do not read the embedding of the cell"):
            AdaptCells(objectives)
    AdaptCells([GenesFromCell(), MaskedGene()])
