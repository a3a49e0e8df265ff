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
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from stgraph.errors import InputError, TrustError

TARGET = "_target_"

AS_CONFIGS = "_as_configs_"
"""Class attribute: names of the arguments that the class wants as configs, for it builds them itself, several times."""


def config_dir() -> Path:
    """Folder of the config groups: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def instantiate(config: Any, *, trusted: Sequence[str] | None = None, **extra: Any) -> Any:
    """Build the object a config describes.

    Parameters
    ----------
    config
        A mapping with ``_target_`` (import path of a class) and its constructor
        arguments, which may be such mappings themselves. Anything else is returned as
        it is, so that an object may stand where a config is expected.
    trusted
        Packages whose classes may be built; None for any. For configs that come from
        others, for a class is code.
    **extra
        Further constructor arguments of the outermost object, known only at run time.

    Raises
    ------
    InputError
        If the class cannot be imported or is not trusted, or an argument is unknown,
        missing or of the wrong type.

    Examples
    --------
    >>> from stgraph._config import instantiate
    >>> instantiate({"_target_": "stgraph.graph.builders.KNN", "n_neighbors": 6}).n_neighbors
    6
    """
    if isinstance(config, Mapping):
        if TARGET not in config:
            return {key: instantiate(value, trusted=trusted) for key, value in config.items()}
        cls = import_class(str(config[TARGET]), trusted=trusted)
        given = {key: value for key, value in config.items() if key != TARGET}
        as_configs = getattr(cls, AS_CONFIGS, ())
        arguments = {
            key: _checked(value, trusted) if key in as_configs else instantiate(value, trusted=trusted)
            for key, value in given.items()
        } | extra
        _check_arguments(str(config[TARGET]), cls, arguments)
        try:
            return cls(**arguments)
        except InputError:
            raise
        except (TypeError, ValueError) as error:
            raise InputError(f"'{config[TARGET]}' cannot be built from its settings: {error}") from error
    if isinstance(config, Sequence) and not isinstance(config, str | bytes):
        return [instantiate(item, trusted=trusted) for item in config]
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
    >>> from stgraph.graph.delaunay import Delaunay
    >>> to_config(Delaunay(max_length=50.0))
    {'_target_': 'stgraph.graph.delaunay.Delaunay', 'max_length': 50.0}
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


def import_class(path: str, *, trusted: Sequence[str] | None = None) -> type:
    """The class at an import path.

    Raises
    ------
    InputError
        If there is none, or it is of no package in ``trusted``.
    """
    module_name, _, name = path.rpartition(".")
    if not module_name:
        raise InputError(f"_target_ '{path}' is not an import path like 'mylab.layers.MyLayer'.")
    _check_trust(path, path, trusted)
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
    # A trusted module may have imported a class from one that is not.
    _check_trust(path, cls.__module__, trusted)
    return cls


def _checked(config: Any, trusted: Sequence[str] | None) -> Any:
    """A config as it is, every class in it looked up and trusted."""
    if isinstance(config, Mapping):
        if TARGET in config:
            import_class(str(config[TARGET]), trusted=trusted)
        for value in config.values():
            _checked(value, trusted)
    elif isinstance(config, Sequence) and not isinstance(config, str | bytes):
        for item in config:
            _checked(item, trusted)
    return config


def _check_trust(path: str, module: str, trusted: Sequence[str] | None) -> None:
    package = module.partition(".")[0]
    if trusted is not None and package not in trusted:
        raise TrustError(
            f"'{path}' is code of the package '{package}', which is not run unless you trust it: "
            f"pass --trust {package} (trust=['{package}']) if you know where the model comes from."
        )


def _parameters(cls: type) -> dict[str, inspect.Parameter]:
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {name: p for name, p in inspect.signature(cls).parameters.items() if p.kind not in variadic}


def _check_arguments(path: str, cls: type, arguments: Mapping[str, Any]) -> None:
    known = _parameters(cls)
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in inspect.signature(cls).parameters.values())
    for name in arguments:
        if name not in known and not takes_any:
            raise InputError(f"'{path}' has no parameter '{name}'.{_hint(name, known)} It takes: {', '.join(known)}.")
    for name, value in arguments.items():
        if name in known:
            _check_type(path, name, value, known[name].annotation)
    for name, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and name not in arguments:
            raise InputError(f"'{path}' needs the parameter '{name}'.")


def _check_type(path: str, name: str, value: Any, annotation: Any) -> None:
    """Numbers, texts and choices are checked; what else a parameter takes is its own affair."""
    accepted = {int: (int,), float: (int, float), bool: (bool,), str: (str,)}
    if get_origin(annotation) is Literal:
        fits = value in get_args(annotation)
        wanted = "one of " + ", ".join(map(repr, get_args(annotation)))
    elif annotation in accepted:
        fits = isinstance(value, accepted[annotation]) and (annotation is bool or not isinstance(value, bool))
        wanted = f"of type {annotation.__name__}"
    else:
        return
    if not fits:
        raise InputError(f"'{path}': '{name}' must be {wanted}, not {value!r}.")


def _hint(name: str, known: Any) -> str:
    by_lower = {str(candidate).lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=1)
    return f" Did you mean '{by_lower[close[0]]}'?" if close else ""
