"""SToFM's cell encoder in the layout it is published in: a Hugging Face BERT folder, and a projection.

Only tensors and JSON are read; no code in the files is ever run, and ``transformers`` is not needed.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors.torch import save_file
from torch import Tensor

from stgraph._files import atomic_dir
from stgraph.errors import CheckpointError, InputError
from stgraph.models.rank_encoder import RankEncoder
from stgraph.models.weight_files import misfits, read_config, read_weights
from stgraph.nn.bert import Activation

BERT = "cell_bert"
PROJECTION = "cell_proj.bin"
CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Names that Hugging Face gives a file of weights; the first that is there is read."""

_LAYOUT = f"a folder with {BERT}/{CONFIG}, {BERT}/{WEIGHTS[0]} or {BERT}/{WEIGHTS[1]}, and {PROJECTION}"

_SIZES = {
    "vocabulary_size": ("vocab_size", 30522),
    "hidden_channels": ("hidden_size", 768),
    "num_layers": ("num_hidden_layers", 12),
    "ffn_channels": ("intermediate_size", 3072),
    "max_positions": ("max_position_embeddings", 512),
    "num_types": ("type_vocab_size", 2),
}
"""Our sizes that the weights tell, what BERT's config calls them, and what it means where it does not say."""

_SETTINGS = {
    "heads": ("num_attention_heads", 12),
    "dropout": ("hidden_dropout_prob", 0.1),
    "attention_dropout": ("attention_probs_dropout_prob", 0.1),
    "activation": ("hidden_act", "gelu"),
    "norm_eps": ("layer_norm_eps", 1e-12),
}
"""Likewise, where only the config tells."""

_OTHERWISE = {"model_type": "bert", "position_embedding_type": "absolute", "is_decoder": False}
"""Settings that would make another network of the same weights, and the value they must have."""

_BERT, _HEAD, _PROJ = "bert.", "cls.predictions.", "cell_proj."
_OURS = ("cell_head.", "gene_bias", "feature_")
"""Weights and buffers that the published layout has no place for."""

_UNUSED = re.compile(r"bert\.(pooler\.dense\.(weight|bias)|embeddings\.(position_ids|token_type_ids))")
"""What a BertModel may have that says nothing of tokens: its pooler, and buffers that older versions stored."""


def load_rank_encoder(folder: str | os.PathLike[str], *, random_state: int = 0) -> RankEncoder:
    """Read the published layout.

    Parameters
    ----------
    folder
        Has ``cell_bert/``, with ``config.json`` and ``model.safetensors`` or ``pytorch_model.bin``, and
        ``cell_proj.bin``. The weights are those of a ``BertModel`` or of a ``BertForMaskedLM``, whose names begin with
        ``bert.`` and which has a head. The pooler of a ``BertModel`` is left out, for the cell is the class token.
    random_state
        Seed of the head, where the file has none: it predicts nothing then until it is trained. And of the head that
        tells genes from an embedding, which no file has.

    Returns
    -------
    RankEncoder
        In float32 on the CPU, in eval mode; the class token stands for the cell.

    Raises
    ------
    CheckpointError
        If a file is missing, damaged or holds more than tensors, or names, shapes and config do not all fit; all that
        does not is listed.

    Examples
    --------
    >>> import tempfile
    >>> from stgraph.models.bert_checkpoint import load_rank_encoder, save_rank_encoder
    >>> from stgraph.models.rank_encoder import RankEncoder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_rank_encoder(RankEncoder(vocabulary_size=10, hidden_channels=32, pooling="class"), folder)
    ...     load_rank_encoder(folder).hidden_channels
    32
    """
    folder = Path(folder)
    config = read_config(folder / BERT / CONFIG, layout=_LAYOUT)
    weights = _read_bert(folder / BERT)
    projection = {_PROJ + name: tensor for name, tensor in read_weights(folder / PROJECTION).items()}
    sizes = _sizes(folder, weights, projection)
    problems = [f"config.json: {problem}" for problem in _config_problems(config, sizes)]
    meta: dict[str, Any] = {**sizes, "heads": 1}
    with torch.device("meta"):
        own = RankEncoder(**meta).state_dict()
    tied = {
        _HEAD + "decoder.weight": _BERT + "embeddings.word_embeddings.weight",
        _HEAD + "decoder.bias": _HEAD + "bias",
    }
    for copy, original in tied.items():
        if copy in weights and (original not in weights or not torch.equal(weights[copy], weights[original])):
            problems.append(f"'{copy}' is not '{original}', but only tied weights are read")
        weights.pop(copy, None)
    weights = {name: tensor for name, tensor in weights.items() if not _UNUSED.fullmatch(name)} | projection
    headless = not any(name.startswith(_HEAD) for name in weights)
    ours_alone = (*_OURS, _HEAD) if headless else _OURS
    needed = {name: tensor for name, tensor in own.items() if not name.startswith(ours_alone)}
    problems += misfits(needed, weights)
    if problems:
        raise CheckpointError(f"The cell encoder in '{folder}' does not fit: {'; '.join(problems)}.")
    arguments: dict[str, Any] = {**sizes, "pooling": "class"}
    arguments |= {ours: config.get(theirs, default) for ours, (theirs, default) in _SETTINGS.items()}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(random_state)  # torch.manual_seed would seed every GPU, for good
        model = RankEncoder(**arguments)
    model.load_state_dict({name: tensor for name, tensor in model.state_dict().items() if name not in needed} | weights)
    return model.eval()


def save_rank_encoder(model: RankEncoder, folder: str | os.PathLike[str], *, head: bool = False) -> None:
    """Write the published layout: the inverse of `load_rank_encoder`, to the bit.

    The head that tells genes from an embedding is not written.

    Parameters
    ----------
    model
        In float32, of finite weights; its class token stands for the cell (``pooling="class"``).
    folder
        Where to. It must not exist, or be empty; it appears whole or not at all.
    head
        Whether to write the head that predicts genes as well, as a ``BertForMaskedLM``; the published weights are a
        ``BertModel``, which has none.

    Raises
    ------
    InputError
        If the layout has no place for the model, or the folder has content.
    """
    if model.pooling != "class" or model.scaled:
        raise InputError(
            "In the published layout of the cell encoder the class token stands for the cell, and its embedding has "
            "length 1: a model with the mean of its genes (pooling='mean') or scaled features would be read as another."
        )
    state = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    if any(tensor.dtype != torch.float32 for tensor in state.values()):
        raise InputError("The published layout of the cell encoder is float32: call model.float() first.")
    if wrong := next((name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())), None):
        raise InputError(f"'{wrong}' of the model holds numbers that are not finite, which could not be read again.")
    # Clones, for what is a view of something larger would be written with all of it.
    state = {name: tensor.clone().contiguous() for name, tensor in state.items()}
    projection = {name.removeprefix(_PROJ): tensor for name, tensor in state.items() if name.startswith(_PROJ)}
    bert = {name: tensor for name, tensor in state.items() if name.startswith((_BERT, _HEAD))}
    if not head:
        bert = {name.removeprefix(_BERT): tensor for name, tensor in bert.items() if name.startswith(_BERT)}
    config: dict[str, Any] = {"architectures": ["BertForMaskedLM" if head else "BertModel"], "model_type": "bert"}
    config |= {theirs: getattr(model, ours) for ours, (theirs, _) in (_SIZES | _SETTINGS).items()}
    config |= {"pad_token_id": 0, "initializer_range": 0.02}
    with atomic_dir(folder) as tmp:
        (tmp / BERT).mkdir()
        save_file(bert, tmp / BERT / WEIGHTS[0], metadata={"format": "pt"})
        (tmp / BERT / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        torch.save(projection, tmp / PROJECTION)


def _read_bert(folder: Path) -> dict[str, Tensor]:
    """Tensors by their name in a ``BertForMaskedLM``."""
    path = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if path is None:
        raise CheckpointError(f"'{folder}' has neither {WEIGHTS[0]} nor {WEIGHTS[1]}: copy it again, whole.")
    weights = read_weights(path)
    if any(name.startswith(_BERT) for name in weights):
        return weights
    return {name if name.startswith(_HEAD) else _BERT + name: tensor for name, tensor in weights.items()}


def _sizes(folder: Path, weights: Mapping[str, Tensor], projection: Mapping[str, Tensor]) -> dict[str, int]:
    """Sizes of the network that the weights are of."""
    where = {
        "vocabulary_size": ("bert.embeddings.word_embeddings.weight", 0),
        "hidden_channels": ("bert.embeddings.word_embeddings.weight", 1),
        "max_positions": ("bert.embeddings.position_embeddings.weight", 0),
        "num_types": ("bert.embeddings.token_type_embeddings.weight", 0),
        "ffn_channels": ("bert.encoder.layer.0.intermediate.dense.weight", 0),
        "out_channels": ("cell_proj.weight", 0),
    }
    tensors = {**weights, **projection}
    lacking = sorted({name for name, _ in where.values() if name not in tensors or 0 in tensors[name].shape})
    lacking += sorted({name for name, _ in where.values() if name in tensors and tensors[name].dim() != 2})
    if lacking:
        found = ", ".join(map(repr, list(tensors)[:3])) or "nothing"
        raise CheckpointError(
            f"'{folder}' lacks {', '.join(map(repr, lacking))}, each a matrix, so it is not SToFM's cell encoder: "
            f"it has {found}, ..."
        )
    sizes = {size: tensors[name].shape[axis] for size, (name, axis) in where.items()}
    layers = {at[1] for name in weights if (at := re.match(r"bert\.encoder\.layer\.(\d+)\.", name))}
    return sizes | {"num_layers": len(layers)}


def _config_problems(config: Mapping[str, Any], sizes: Mapping[str, int]) -> Iterable[str]:
    for ours, (theirs, usual) in _SIZES.items():
        says = config.get(theirs, usual)
        if isinstance(says, bool) or says != sizes[ours]:
            unsaid = "" if theirs in config else ", which it means by leaving it out"
            yield f"{theirs} {says!r}{unsaid}, but the weights have {sizes[ours]}"
    for name, value in _OTHERWISE.items():
        if config.get(name, value) != value:
            yield f"{name} {config[name]!r}, but only {value!r} is published and read"
    settings = {theirs: config.get(theirs, default) for theirs, default in _SETTINGS.values()}
    heads, activation, eps = (settings[name] for name in ("num_attention_heads", "hidden_act", "layer_norm_eps"))
    width = sizes["hidden_channels"]
    if isinstance(heads, bool) or not isinstance(heads, int) or heads < 1 or width % heads:
        yield f"num_attention_heads {heads!r}, which does not divide the width of {width}"
    for theirs in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        rate = settings[theirs]
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
            yield f"{theirs} {rate!r}, which is not from 0 to below 1"
    if activation not in get_args(Activation):
        yield f"hidden_act {activation!r}, but only {', '.join(get_args(Activation))} are read"
    if isinstance(eps, bool) or not isinstance(eps, int | float) or not 0 < eps < 1:
        yield f"layer_norm_eps {eps!r}, which is not a small positive number"
