"""The arguments that built a module, read off the module.

`stgraph._config.to_config` asks that every argument is kept as an attribute of the same
name. Modules of PyG, DGL and torch keep most of theirs, some under another name or as a
weight; what cannot be read off is taken to be the default, and a module built that way
has to be like the one it was read from.
"""

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from stgraph._config import TARGET, to_config
from stgraph.errors import InputError

_LOST: Any = object()


def module_config(value: Any) -> Any:
    """Config of a module, or of anything that holds modules.

    Parameters
    ----------
    value
        A module, a config of one (modules may stand in it), or a plain value.

    Returns
    -------
    Any
        What `stgraph._config.instantiate` builds it from, with other random weights.

    Raises
    ------
    InputError
        If the arguments of a module cannot be read off it.

    Examples
    --------
    >>> import torch
    >>> from stgraph.nn.module_config import module_config
    >>> module_config(torch.nn.Linear(2, 3, bias=False))
    {'_target_': 'torch.nn.modules.linear.Linear', 'in_features': 2, 'out_features': 3, 'bias': False}
    """
    if isinstance(value, nn.Module):
        with torch.random.fork_rng(devices=[]):
            new_like(value)  # which refuses what cannot be built again
        arguments = {name: module_config(kept) for name, kept in _arguments(value).items()}
        return {TARGET: _path(value), **arguments}
    if isinstance(value, Mapping):
        return {str(key): module_config(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [module_config(item) for item in value]
    return to_config(value)


def new_like(module: nn.Module) -> nn.Module:
    """A module of the same class and arguments, with weights of its own.

    Raises
    ------
    InputError
        If the arguments cannot be read off it: what they build is not alike.
    """
    arguments = {
        name: new_like(kept) if isinstance(kept, nn.Module) else copy.deepcopy(kept)
        for name, kept in _arguments(module).items()
    }
    try:
        again = type(module)(**arguments)
    except (TypeError, ValueError, AttributeError) as error:
        raise _unreadable(module, str(error)) from error
    if difference := _difference(module, again):
        raise _unreadable(module, difference)
    return again


def _arguments(module: nn.Module) -> dict[str, Any]:
    arguments = {}
    for name, parameter in inspect.signature(type(module)).parameters.items():
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            continue
        kept = _kept(module, name, parameter)
        if kept is not _LOST:
            arguments[name] = kept
        elif parameter.default is inspect.Parameter.empty:
            raise _unreadable(module, f"it does not keep '{name}'")
    return arguments


def _kept(module: nn.Module, name: str, parameter: inspect.Parameter) -> Any:
    # PyG keeps the start of a learned number as initial_NAME, DGL keeps most as _NAME.
    for attribute in (f"initial_{name}", name, f"_{name}"):
        computed = isinstance(getattr(type(module), attribute, None), property)
        if computed and parameter.default is not inspect.Parameter.empty:
            continue
        value = getattr(module, attribute, _LOST)
        if isinstance(parameter.default, bool) and (value is None or isinstance(value, Tensor)):
            return value is not None  # bias=True leaves a weight behind
        if _is_plain(value) or (isinstance(value, nn.Module) and not isinstance(value, nn.ModuleList)):
            return value
    return _LOST


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    return value is None or isinstance(value, bool | int | float | str)


def _difference(module: nn.Module, again: nn.Module) -> str | None:
    """What tells two modules apart beside the values of their weights."""
    ours, theirs = dict(module.named_modules()), dict(again.named_modules())
    for name in ours | theirs:  # in their order
        one, other = ours.get(name), theirs.get(name)
        if type(one) is not type(other):
            return f"'{name}' would be of {type(other).__name__}, not of {type(one).__name__}"
        for key, value in vars(one).items():
            again_value = vars(other).get(key)
            both_plain = _is_plain(value) and _is_plain(again_value)
            told_apart = value != again_value if both_plain else callable(value) != callable(again_value)
            if key != "training" and told_apart:
                return f"'{f'{name}.{key}'.lstrip('.')}' would be {again_value!r}, not {value!r}"
    for kind in ("named_parameters", "named_buffers"):
        one_has, other_has = (
            {name: None if is_lazy(tensor) else tensor.shape for name, tensor in getattr(each, kind)()}
            for each in (module, again)
        )
        for name in one_has | other_has:
            shapes = one_has.get(name, ()), other_has.get(name, ())
            if (name in one_has) != (name in other_has) or (None not in shapes and shapes[0] != shapes[1]):
                return f"the weight '{name}' would be another"
    return None


def _unreadable(module: nn.Module, reason: str) -> InputError:
    return InputError(
        f"The arguments that built this {type(module).__name__} cannot be read off it ({reason}): keep each as an "
        f"attribute of the same name, or give a config instead: {{'_target_': '{_path(module)}', ...}}."
    )


def _path(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"
