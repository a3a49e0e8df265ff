"""Weights of AIDO.Tissue's encoder in the layout they are published in.

A folder with ``model.safetensors``, ``pytorch_model.bin`` or the ``.ckpt`` of a fine-tuning, and ``config.json``, which
need not be there: what it says can nearly all be read off the tensors. Only tensors and JSON are read: no code in the
files is ever run.
"""

import json
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from stgraph._files import atomic_dir
from stgraph.errors import CheckpointError, InputError, StgraphWarning
from stgraph.models.aido_tissue import AIDOTissue
from stgraph.models.weight_files import misfits, read_config, read_weights

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Names of the file of weights, the newer one first."""

CHECKPOINTS = "*.ckpt"
"""What a checkpoint of Lightning is called, which is read where there is neither."""

LICENCE = (
    "GenBio AI Community License: for non-commercial use only; what is derived from the weights carries it too; and "
    "outputs may not be used to train similar models"
)
"""What the published weights may be used for."""

_OURS = "decoder."
_PREFIXES = ("backbone.encoder.bert.", "backbone.encoder.", "bert.", "")
"""Before the names of the encoder, by the class that the weights were written from."""

_UNUSED = re.compile(r"cls\..*|.*\.rotary_emb\.inv_freq")
"""The release computes nothing with these: a head that it never trained, and a constant."""

_HEAD = "adapter."
"""Before the names of the head of a task, in a checkpoint of a fine-tuning."""

_MODEL_TYPE = "cellspatialfoundation"
"""What the published config calls the architecture."""

_SIZES = {
    "hidden_channels": "hidden_size",
    "num_layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "ffn_channels": "intermediate_size",
    "num_bins": "bin_num",
}
"""Our sizes, and what the published config calls them."""

_GENES = "max_position_embeddings"
"""What the published config calls the number of genes."""

_LAYOUT = f"a folder with {WEIGHTS[0]}"

_FIXED = {"bin_alpha": 1.0, "layer_norm_eps": 1e-5, "hidden_act": "swiglu", "rope2d_use_xy": False}
"""Settings that would make another network of the same weights, and the value they must have."""

_OWN_TRAINING = {"trained_by": "stgraph"}
"""In configs that `save_aido_tissue` writes of weights that are nobody else's."""


def is_aido_release(path: str | os.PathLike[str]) -> bool:
    """Whether a folder looks like the published layout, or a file like its weights.

    Examples
    --------
    >>> from stgraph.models.aido_tissue_release import is_aido_release
    >>> is_aido_release("nowhere")
    False
    """
    path = Path(path)
    if path.is_file():
        return path.suffix in (".safetensors", ".bin", ".ckpt")
    if not any((path / name).is_file() for name in WEIGHTS) and not any(path.glob(CHECKPOINTS)):
        return False
    if (path / CONFIG).is_file():
        try:
            config = read_config(path / CONFIG, layout=_LAYOUT)
        except CheckpointError:  # whoever reads the folder next says what is wrong
            return False
        return "format_version" not in config and (config.get("model_type") == _MODEL_TYPE or "bin_num" in config)
    # A model directory of ours that lost its config.json has several files of safetensors
    return len([*path.glob("*.safetensors")]) < 2


def load_aido_tissue(
    path: str | os.PathLike[str],
    *,
    network: type[AIDOTissue] = AIDOTissue,
    heads: int | None = None,
    random_state: int = 0,
    **settings: Any,
) -> AIDOTissue:
    """Read the published layout.

    Sizes are those of the tensors, RMSNorm or LayerNorm is told by their names. The decoder was not published: its
    weights are drawn, so that hidden values are not predicted until it is trained.

    Parameters
    ----------
    path
        A folder with ``model.safetensors``, ``pytorch_model.bin`` or one ``.ckpt`` of Lightning, and perhaps
        ``config.json``; or the file of weights alone. Names may begin with ``bert.`` or ``backbone.encoder.``.
    network
        What is built of them: the class, or `stgraph.models.aido_tissue_reference.AIDOTissueReference`.
    heads
        H, where neither a config nor the tensors tell; None for heads of 64 channels, as both published sizes have.
    random_state
        Seed of the decoder.
    **settings
        Of `AIDOTissue`: ``pooling``, ``dropout`` and what begins with ``decoder_``. Those that weights decide may be
        given too, if they say the same.

    Returns
    -------
    AIDOTissue
        In float32 on the CPU, in eval mode; ``licence`` says what the weights may be used for.

    Raises
    ------
    CheckpointError
        If a file is missing, damaged or holds more than tensors, or names, shapes and config do not all fit; all that
        does not is listed.
    InputError
        If settings are not those of the weights.

    Warns
    -----
    StgraphWarning
        What the licence of the published weights allows; not of weights that stgraph trained from nothing. And if the
        file has the head of a task, which is left out.

    Examples
    --------
    >>> import tempfile
    >>> from stgraph.models.aido_tissue import AIDOTissue
    >>> from stgraph.models.aido_tissue_release import load_aido_tissue, save_aido_tissue
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_aido_tissue(AIDOTissue(num_genes=10, hidden_channels=16, num_layers=2, norm="layer"), folder)
    ...     load_aido_tissue(folder).norm
    'layer'
    """
    path = Path(path)
    file, config = _find(path)
    published = read_weights(file)
    weights = _without_prefix(file, published)
    frequencies = next((t for name, t in weights.items() if name.endswith("inv_freq")), None)
    head = [name for name in weights if name.startswith(_HEAD)]
    weights = {name: tensor for name, tensor in weights.items() if name not in head and not _UNUSED.fullmatch(name)}
    sizes = _sizes(file, weights)
    sizes["heads"] = heads or _heads(config, sizes["hidden_channels"], frequencies)
    licence = None if config.items() >= _OWN_TRAINING.items() else str(config.get("licence", LICENCE))
    decided = {**sizes, "norm": "layer" if "encoder.ln.bias" in weights else "rms", "licence": licence}
    _check_settings(file, settings, decided)
    arguments: dict[str, Any] = settings | decided
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(random_state)  # torch.manual_seed would seed every GPU, for good
            model = network(**arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"'{path}' cannot be made a network: {error}") from error
    own = model.state_dict()
    needed = {name: tensor for name, tensor in own.items() if not name.startswith(_OURS)}
    problems = [*_config_problems(config, sizes), *misfits(needed, weights)]
    if problems:
        raise CheckpointError(f"The weights in '{file}' do not fit: {'; '.join(problems)}.")
    model.load_state_dict({name: tensor for name, tensor in own.items() if name not in needed} | weights)
    if head:
        warnings.warn(
            f"'{file}' has the head of a task ({', '.join(head)}), which is left out: only the encoder is read.",
            StgraphWarning,
            stacklevel=2,
        )
    if licence is not None:
        warnings.warn(f"The weights in '{path}' come with a licence ({licence}).", StgraphWarning, stacklevel=2)
    return model.eval()


def save_aido_tissue(model: AIDOTissue, folder: str | os.PathLike[str]) -> None:
    """Write the published layout: the inverse of `load_aido_tissue`, to the bit.

    The decoder has no place in it, nor has the pooling. The licence of weights that have one is written along.

    Parameters
    ----------
    model
        In float32, of finite weights.
    folder
        Where to. It must not exist, or be empty; it appears whole or not at all.

    Raises
    ------
    InputError
        If the layout has no place for the model, or the folder has content.
    """
    state = {name: tensor.cpu() for name, tensor in model.state_dict().items() if not name.startswith(_OURS)}
    if any(tensor.dtype != torch.float32 for tensor in state.values()):
        raise InputError("The published layout of AIDO.Tissue is float32: call model.float() first.")
    if wrong := next((name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())), None):
        raise InputError(f"'{wrong}' of the model holds numbers that are not finite, which could not be read again.")
    config: dict[str, Any] = {"model_type": _MODEL_TYPE, _GENES: model.num_genes}
    config |= {theirs: getattr(model, ours) for ours, theirs in _SIZES.items()} | _FIXED
    config |= _OWN_TRAINING if model.licence is None else {"licence": model.licence}
    with atomic_dir(folder) as tmp:
        # Clones, for what is a view of something larger would be written with all of it.
        clones = {name: tensor.clone().contiguous() for name, tensor in state.items()}
        save_file(clones, tmp / WEIGHTS[0], metadata={"format": "pt"})
        (tmp / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _find(path: Path) -> tuple[Path, dict[str, Any]]:
    """The file of weights, and the config beside it: empty if there is none."""
    if path.is_file():
        return path, {}
    if not path.is_dir():
        raise CheckpointError(f"There is no '{path}'.")
    found = [path / name for name in WEIGHTS if (path / name).is_file()][:1] or sorted(path.glob(CHECKPOINTS))
    if not found:
        raise CheckpointError(f"'{path}' has neither {WEIGHTS[0]} nor {WEIGHTS[1]}, nor a .ckpt: copy it again, whole.")
    if len(found) > 1:
        names = ", ".join(f"'{file.name}'" for file in found)
        raise CheckpointError(f"'{path}' has {len(found)} checkpoints ({names}): give the path of one.")
    has_config = (path / CONFIG).is_file()
    return found[0], read_config(path / CONFIG, layout=_LAYOUT) if has_config else {}


def _without_prefix(file: Path, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    sign = "position_embedding.weight"
    prefix = next((prefix for prefix in _PREFIXES if prefix + sign in weights), None)
    if prefix is None or weights[prefix + sign].dim() != 2:
        found = ", ".join(map(repr, list(weights)[:3])) or "nothing"
        raise CheckpointError(f"'{file}' has no matrix '{sign}', so it is not AIDO.Tissue: it has {found}.")
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items()}


def _sizes(file: Path, weights: Mapping[str, Tensor]) -> dict[str, int]:
    """Sizes of the network that the weights are of, all but the number of heads."""
    where = {
        "hidden_channels": ("position_embedding.weight", 1),
        "num_bins": ("gene_embedding.lookup_table.weight", 0),
        "ffn_channels": ("encoder.layer.0.mlp.up_proj.weight", 0),
    }
    lacking = sorted({name for name, _ in where.values() if name not in weights or weights[name].dim() != 2})
    if lacking:
        raise CheckpointError(f"'{file}' lacks {', '.join(map(repr, lacking))}, so it is not AIDO.Tissue.")
    sizes = {size: weights[name].shape[axis] for size, (name, axis) in where.items()}
    layers = {at[1] for name in weights if (at := re.match(r"encoder\.layer\.(\d+)\.", name))}
    return sizes | {"num_layers": len(layers), "num_genes": len(weights["position_embedding.weight"]) - 3}


def _heads(config: Mapping[str, Any], channels: int, frequencies: Tensor | None) -> int:
    says = config.get(_SIZES["heads"])
    if isinstance(says, int) and not isinstance(says, bool) and says > 0:
        return says
    # Each of two dimensions has half as many wavelengths as it has channels
    width = 64 if frequencies is None else 4 * frequencies.numel()
    if width == 0 or channels % width:
        raise CheckpointError(
            f"Nothing tells how many heads the network of {channels} channels has: give heads, or the config.json."
        )
    return channels // width


def _check_settings(file: Path, settings: Mapping[str, Any], decided: Mapping[str, Any]) -> None:
    """Refuse what was asked for and would not be had."""
    others = [
        f"{name} {decided[name]!r}, not {value!r}"
        for name, value in settings.items()
        if name in decided and value != decided[name]
    ]
    if others:
        raise InputError(
            f"The weights in '{file}' have {'; '.join(others)}: leave out what they decide, or say the same."
        )


def _config_problems(config: Mapping[str, Any], sizes: Mapping[str, int]) -> Iterable[str]:
    for ours, theirs in {**_SIZES, "num_genes": _GENES}.items():
        if theirs in config and (isinstance(config[theirs], bool) or config[theirs] != sizes[ours]):
            yield f"{CONFIG} says {theirs} {config[theirs]!r}, but the weights have {sizes[ours]}"
    for name, needed in _FIXED.items():
        if config.get(name, needed) != needed:
            yield f"{CONFIG} says {name} {config[name]!r}, but only {needed!r} is published and read"
