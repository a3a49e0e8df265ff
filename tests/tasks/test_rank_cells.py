import copy
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from safetensors.numpy import load_file, save_file

import stgraph
from stgraph import _keys
from stgraph._config import instantiate, to_config
from stgraph.cli.compose import compose_config
from stgraph.errors import CheckpointError, InputError, StgraphWarning
from stgraph.graph.builders import KNN
from stgraph.io.synthetic import synthetic_tissue
from stgraph.models.bert_checkpoint import save_rank_encoder
from stgraph.models.rank_encoder import RankEncoder
from stgraph.models.se2_transformer import SE2Transformer
from stgraph.preprocess.encoder import LogPCA
from stgraph.preprocess.gene_vocabulary import GeneVocabulary
from stgraph.tasks.pretrained import Pretrained
from stgraph.tasks.rank_cells import RankCells

SMALL = {"hidden_channels": 16, "num_layers": 2, "heads": 2, "ffn_channels": 24, "out_channels": 6}
HUMAN = [f"ENSG{i:011d}" for i in range(60)]


@pytest.fixture(scope="module")
def slices():
    """Of genes that all have counts, so that all get a token."""
    made = synthetic_tissue(n_cells=80, n_genes=100, n_slices=3)
    seen = np.flatnonzero(np.all([np.asarray(adata.X.sum(axis=0)).ravel() > 0 for adata in made], axis=0))[:60]
    return [adata[:, seen].copy() for adata in made]


def fitted(slices, **options):
    with pytest.warns(StgraphWarning, match="its network is as it was drawn"):
        return RankCells(settings=SMALL, **options).fit(slices)


@pytest.fixture(scope="module")
def encoder(slices):
    return fitted(slices[:2])


@pytest.fixture(scope="module")
def published(tmp_path_factory, slices):
    """A folder of a cell encoder, and one of its vocabulary: the genes of the slices, named otherwise."""
    folder = tmp_path_factory.mktemp("published")
    torch.manual_seed(3)
    model = RankEncoder(64, 6, 16, heads=2, max_positions=50, pooling="class")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    save_rank_encoder(model, folder / "cell_encoder")
    names = dict(zip(slices[0].var_names, HUMAN, strict=True))
    GeneVocabulary.of_medians(dict.fromkeys(HUMAN, 2.0), names).write(folder / "vocabulary")
    return folder


def test_features_are_centred_and_scaled_by_the_slices_to_fit(encoder, slices):
    fitted_to = np.concatenate([encoder.transform(adata) for adata in slices[:2]])
    np.testing.assert_allclose(fitted_to.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(fitted_to.var(axis=0).mean(), 1, atol=1e-3)
    for adata in (slices[2], slices[2][:1].copy()):
        x = encoder.transform(adata)
        assert x.dtype == np.float32
        assert x.shape == (adata.n_obs, 6)
        unit = x * encoder.network.feature_scale.numpy() + encoder.network.feature_mean.numpy()
        np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-5)
    assert encoder.genes == list(slices[0].var_names)


def test_is_the_network_on_the_tokens(encoder, slices):
    tokens = encoder.tokenize(slices[2])
    assert (tokens.tokens[tokens.indptr[:-1]] == encoder.tokenizer.vocabulary.cls).all()
    x = encoder.transform(slices[2])
    for row in (0, 17, 79):
        states = encoder.network.bert(torch.tensor(tokens[row]).long(), torch.tensor([0, len(tokens[row])]))
        unit = torch.nn.functional.normalize(encoder.network.cell_proj(states[1:].mean(0)), dim=0)
        expected = (unit - encoder.network.feature_mean) / encoder.network.feature_scale
        np.testing.assert_allclose(x[row], expected.detach(), atol=1e-4)


def test_a_cell_depends_on_no_other(encoder, slices):
    whole = encoder.transform(slices[2])
    order = np.random.default_rng(0).permutation(80)[:30]
    np.testing.assert_allclose(encoder.transform(slices[2][order].copy()), whole[order], atol=1e-4)
    genes = np.random.default_rng(0).permutation(60)
    np.testing.assert_allclose(encoder.transform(slices[2][:, genes].copy()), whole, atol=1e-4)
    deeper = slices[2].copy()
    deeper.X = deeper.X * 3  # the order of the genes is the same
    np.testing.assert_array_equal(encoder.transform(deeper), whole)


def test_a_cell_without_counts_has_the_class_token_alone(encoder, slices):
    adata = slices[2].copy()
    keep = np.ones(80)
    keep[[3, 9]] = 0
    adata.X = sp.csr_matrix(sp.diags(keep) @ adata.X).astype(np.int32)
    x = encoder.transform(adata)
    assert encoder.tokenize(adata).lengths[[3, 9]].tolist() == [1, 1]
    assert np.array_equal(x[3], x[9])
    assert np.isfinite(x).all()


def test_same_seed_same_numbers_and_labels_are_not_looked_at(encoder, slices):
    bare = [adata.copy() for adata in slices]
    for adata in bare:
        adata.obs = adata.obs[[_keys.SLICE]]
    x = encoder.transform(slices[2])
    assert np.array_equal(fitted(bare[:2]).transform(bare[2]), x)
    assert not np.allclose(fitted(slices[:2], random_state=1).transform(slices[2]), x)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    fitted(slices[:2])
    assert torch.equal(torch.rand(1), expected)  # nobody else's draws are disturbed


def test_fitting_again_forgets(slices):
    encoder = fitted(slices[:1])
    with torch.no_grad():
        encoder.network.cell_proj.weight.zero_()
    with pytest.warns(StgraphWarning, match="drawn"):
        encoder.fit(slices[1:])
    assert np.array_equal(encoder.transform(slices[0]), fitted(slices[1:]).transform(slices[0]))


def test_state_and_config_build_it_again(encoder, slices, tmp_path):
    save_file(encoder.state(), tmp_path / "state.safetensors")
    config = to_config(encoder)
    again = instantiate(config, trusted=("stgraph",)).load_state(load_file(tmp_path / "state.safetensors"))
    assert to_config(again) == config
    assert again.genes == encoder.genes
    assert not again.network.training
    assert np.array_equal(again.transform(slices[2]), encoder.transform(slices[2]))
    assert np.array_equal(copy.deepcopy(again).transform(slices[2]), encoder.transform(slices[2]))
    for name, array in again.state().items():
        np.testing.assert_array_equal(array, encoder.state()[name])


def test_state_is_a_copy_and_follows_training(encoder, slices):
    trained = RankCells(settings=SMALL).load_state(encoder.state())
    before, x = trained.state(), trained.transform(slices[2])
    with torch.no_grad():
        trained.network.cell_proj.weight[0] = 0.0
    after = trained.state()
    assert not np.array_equal(before["network.cell_proj.weight"], after["network.cell_proj.weight"])
    assert np.array_equal(before["network.cell_proj.weight"], encoder.state()["network.cell_proj.weight"])
    assert not np.allclose(trained.transform(slices[2]), x)


def test_published_weights(published, slices):
    encoder = RankCells.from_published(published / "cell_encoder", published / "vocabulary", max_length=50)
    assert encoder.genes == HUMAN
    x = encoder.transform(slices[0])
    assert x.shape == (80, 6)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-6)
    assert encoder.network.vocabulary_size == 64
    assert encoder.network.pooling == "class"
    # The same by config, whose fit looks at no slice.
    again = instantiate(to_config(encoder)).fit(slices[1:])
    assert np.array_equal(again.transform(slices[0]), x)
    # And from its state, where neither folder is at hand.
    moved = RankCells("nowhere", "nowhere", max_length=50).load_state(encoder.state())
    assert np.array_equal(moved.transform(slices[0]), x)
    with pytest.raises(InputError):
        moved.fit(slices)


def test_training_goes_on_from_a_saved_model(encoder, slices, tmp_path):
    model = SE2Transformer(encoder.network.out_channels, hidden_channels=8, num_layers=1, heads=1)
    Pretrained(encoder, KNN(4), None, model).save(tmp_path)
    settings = {"start": str(tmp_path), "max_length": encoder.max_length}
    begun = instantiate({"_target_": "stgraph.tasks.rank_cells.RankCells", **settings}).fit(slices[1:])
    assert begun.genes == encoder.genes
    assert np.array_equal(begun.transform(slices[2]), encoder.transform(slices[2]))
    with torch.no_grad():
        begun.network.cell_proj.weight[0] = 0.0
    assert not np.array_equal(begun.transform(slices[2]), encoder.transform(slices[2]))


def test_a_model_of_another_encoder_is_nothing_to_start_with(slices, tmp_path):
    model = SE2Transformer(4, hidden_channels=8, num_layers=1, heads=1)
    Pretrained(LogPCA(n_components=4).fit(slices), KNN(4), None, model).save(tmp_path)
    with pytest.raises(InputError, match=r"encoder of cells is .*LogPCA, not .*RankCells"):
        RankCells(start=str(tmp_path)).fit(slices)


def test_the_seed_draws_the_heads_of_published_weights(published):
    folders = str(published / "cell_encoder"), str(published / "vocabulary")
    first, same, other = (RankCells(*folders, max_length=50, random_state=seed).fit([]).network for seed in (0, 0, 1))
    head = "cls.predictions.transform.dense.weight"
    assert torch.equal(first.state_dict()[head], same.state_dict()[head])
    assert not torch.equal(first.state_dict()[head], other.state_dict()[head])
    assert torch.equal(first.cell_proj.weight, other.cell_proj.weight)


def test_predictions_of_a_drawn_network_begin_at_the_frequency_of_genes(encoder, slices):
    tokens = np.concatenate([encoder.tokenize(adata).tokens for adata in slices[:2]])
    shares = np.bincount(tokens, minlength=encoder.network.vocabulary_size) / len(tokens)
    predicted = torch.softmax(encoder.network.gene_bias, 0).detach().numpy()
    np.testing.assert_allclose(predicted, shares, atol=1e-3)


def test_orthologs_translate_and_are_part_of_the_state(published, slices, tmp_path):
    mouse = slices[0].copy()
    mouse.var_names = [f"ENSMUSG{i:011d}" for i in range(60)]
    table = tmp_path / "orthologs.tsv"
    table.write_text("".join(f"{a}\t{b}\n" for a, b in zip(mouse.var_names, HUMAN, strict=True)))
    folders = published / "cell_encoder", published / "vocabulary"
    expected = RankCells.from_published(*folders, max_length=50).transform(slices[0])
    encoder = RankCells.from_published(*folders, orthologs=table, max_length=50)
    assert np.array_equal(encoder.transform(mouse), expected)
    again = instantiate(to_config(encoder)).load_state(encoder.state())
    assert np.array_equal(again.transform(mouse), expected)
    with pytest.raises(InputError, match="orthologs if it is of another species"):
        RankCells.from_published(*folders, max_length=50).transform(mouse)


def test_what_does_not_fit_together(published, tmp_path):
    folders = published / "cell_encoder", published / "vocabulary"
    with pytest.raises(InputError, match=r"max_length=2048 is more than the 50 positions"):
        RankCells.from_published(*folders)
    GeneVocabulary.of_medians({f"ENSG{i:011d}": 1.0 for i in range(62)}).write(tmp_path)
    with pytest.raises(InputError, match="has 65 tokens, the class token included, but the network only 64"):
        RankCells.from_published(folders[0], tmp_path, max_length=50)
    with pytest.raises(CheckpointError, match="published layout"):
        RankCells.from_published(tmp_path, folders[1])


def test_long_cells_are_cut(slices):
    encoder = fitted(slices, max_length=5)
    tokens = encoder.tokenize(slices[0])
    assert tokens.lengths.max() == 5
    assert encoder.network.max_positions == 5
    whole = fitted(slices).tokenize(slices[0])
    assert tokens[0].tolist() == whole[0][:5].tolist()


def test_other_panels_of_genes(encoder, slices):
    fewer = encoder.transform(slices[2][:, 12:].copy())
    assert np.isfinite(fewer).all()
    other = slices[2].copy()
    other.var_names = [*other.var_names[:58], "new1", "new2"]
    with pytest.warns(StgraphWarning, match="2 genes of 60"):
        encoder.transform(other)
    other.var_names = [f"new{i}" for i in range(60)]
    with pytest.raises(InputError, match="none of which is in the vocabulary"):
        encoder.transform(other)


def test_config_of_the_package():
    encoder = instantiate(compose_config("fit", ["encoder=rank_cells", "random_state=4"])["encoder"])
    assert to_config(encoder) == to_config(RankCells(random_state=4, settings=encoder.settings))
    network = RankEncoder(3, **encoder.settings)
    assert to_config(network) == to_config(RankEncoder(3))  # what the file says is what the class would do


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 1}, "max_length of at least 2"),
        ({"max_tokens": 100}, "max_tokens of at least 2048"),
        ({"random_state": -1}, "random_state"),
        ({"weights": "a"}, "needs the vocabulary that its weights"),
        ({"weights": "a", "vocabulary": "b", "settings": SMALL}, "not both"),
        ({"start": "a", "settings": SMALL}, "takes all from the model"),
        ({"settings": {"vocabulary_size": 3}}, "which is known"),
        ({"settings": {"_target_": "os.system"}}, "which is known"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(InputError, match=message):
        RankCells(**options)


def test_bad_settings_and_bad_ties(slices):
    with pytest.raises(InputError, match="no parameter 'layers'"):
        RankCells(settings={"layers": 3}).fit(slices)
    with pytest.raises(InputError, match="knows ties"):
        RankCells(ties="alphabet", settings=SMALL).fit(slices)
    with pytest.raises(InputError, match="needs slices"):
        RankCells().fit([])
    for call in (RankCells().transform, RankCells().tokenize, lambda _: RankCells().state()):
        with pytest.raises(InputError, match="was not fitted"):
            call(slices[0])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s: s.pop("config"), InputError, "must hold"),
        (lambda s: s.update(more=np.ones(1)), InputError, "must hold"),
        (lambda s: s.update(config=np.frombuffer(b"{", dtype=np.uint8)), InputError, "how its network is built"),
        (lambda s: s.pop("network.cell_proj.bias"), CheckpointError, "missing 'cell_proj.bias'"),
        (lambda s: s.update({"network.x": np.ones(1)}), CheckpointError, "unknown 'x'"),
        (lambda s: s.pop("vocabulary.tokens"), InputError, "state of GeneVocabulary"),
    ],
)
def test_damaged_state(encoder, change, error, message):
    state = encoder.state()
    change(state)
    with pytest.raises(error, match=message):
        RankCells(settings=SMALL).load_state(state)


@pytest.mark.real
def test_real_tissue_with_the_published_vocabulary(data_dir):
    adata = stgraph.read(data_dir / "dlpfc" / "dlpfc_151673.h5ad")[:200].copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoder = RankCells(vocabulary=str(data_dir / "gene_vocab"), settings=SMALL).fit([])
        tokens = encoder.tokenize(adata)
        x = encoder.transform(adata)
    assert encoder.network.vocabulary_size == 25_427
    assert 500 < np.median(tokens.lengths) <= 2048
    assert x.shape == (200, 6)
    assert np.isfinite(x).all()
