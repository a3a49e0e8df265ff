"""``{"_target_": "package.Class", ...}`` and objects, there and back.

A part of a run (a graph builder, a model, an objective) is a class whose constructor
arguments are kept as attributes of the same name. That is all it takes to build it
from a config and to write the config of an existing object, for our classes and for a
researcher's own ones.
"""

import difflib
import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from stgraph.errors import InputError

TARGET = "_target_"


def instantiate(config: Any, **extra: Any) -> Any:
    """Build the object a config describes.

    Parameters
    ----------
    config
        A mapping with ``_target_`` (import path of a class) and its constructor
        arguments, which may be such mappings themselves. Anything else is returned as
        it is, so that an object may stand where a config is expected.
    **extra
        Further constructor arguments of the outermost object, known only at run time.

    Raises
    ------
    InputError
        If the class cannot be imported, or an argument is unknown or missing.

    Examples
    --------
    >>> from stgraph._config import instantiate
    >>> instantiate({"_target_": "stgraph.graph.builders.KNN", "n_neighbors": 6}).n_neighbors
    6
    """
    if isinstance(config, Mapping):
        if TARGET not in config:
            return {key: instantiate(value) for key, value in config.items()}
        cls = import_class(str(config[TARGET]))
        arguments = {key: instantiate(value) for key, value in config.items() if key != TARGET} | extra
        _check_arguments(str(config[TARGET]), cls, arguments)
        try:
            return cls(**arguments)
        except InputError:
            raise
        except (TypeError, ValueError) as error:
            raise InputError(f"'{config[TARGET]}' cannot be built from its settings: {error}") from error
    if isinstance(config, Sequence) and not isinstance(config, str | bytes):
        return [instantiate(item) for item in config]
    return config


def to_config(obj: Any) -> Any:
    """Write the config of an object: the inverse of `instantiate`.

    Parameters
    ----------
    obj
        An object whose constructor arguments are attributes of the same name, or a
        plain value, list or dict of these.

    Returns
    -------
    dict, list, str, int, float, bool or None
        What JSON and YAML can hold.

    Examples
    --------
    >>> from stgraph._config import to_config
    >>> from stgraph.graph.builders import Radius
    >>> to_config(Radius(radius=50.0))
    {'_target_': 'stgraph.graph.builders.Radius', 'radius': 50.0}
    """
    if obj is None or isinstance(obj, str | int | float | bool):
        return obj
    if isinstance(obj, Mapping):
        return {str(key): to_config(value) for key, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [to_config(item) for item in obj]
    cls = type(obj)
    config: dict[str, Any] = {TARGET: f"{cls.__module__}.{cls.__qualname__}"}
    for name in _parameters(cls):
        if not hasattr(obj, name):
            raise TypeError(
                f"{cls.__qualname__} does not keep its constructor argument {name!r} as an attribute, "
                "so its config cannot be written."
            )
        config[name] = to_config(getattr(obj, name))
    return config


def import_class(path: str) -> type:
    """The class at an import path.

    Raises
    ------
    InputError
        If there is none; the message says what is missing.
    """
    module_name, _, name = path.rpartition(".")
    if not module_name:
        raise InputError(f"_target_ '{path}' is not an import path like 'mylab.layers.MyLayer'.")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise InputError(
            f"_target_ '{path}' cannot be imported ({error}): is it installed, or its folder on PYTHONPATH?"
        ) from error
    if not hasattr(module, name):
        raise InputError(f"_target_ '{path}': module '{module_name}' has no '{name}'.{_hint(name, dir(module))}")
    cls = getattr(module, name)
    if not inspect.isclass(cls):
        raise InputError(f"_target_ '{path}' is not a class.")
    return cls


def _parameters(cls: type) -> dict[str, inspect.Parameter]:
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {name: p for name, p in inspect.signature(cls).parameters.items() if p.kind not in variadic}


def _check_arguments(path: str, cls: type, arguments: Mapping[str, Any]) -> None:
    known = _parameters(cls)
    for name in arguments:
        if name not in known:
            raise InputError(f"'{path}' has no parameter '{name}'.{_hint(name, known)} It takes: {', '.join(known)}.")
    for name, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and name not in arguments:
            raise InputError(f"'{path}' needs the parameter '{name}'.")


def _hint(name: str, known: Any) -> str:
    by_lower = {str(candidate).lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=1)
    return f" Did you mean '{by_lower[close[0]]}'?" if close else ""
