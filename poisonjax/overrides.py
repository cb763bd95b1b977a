"""Configuration as text: `section.field=value` into frozen dataclasses, and dataclasses into JSON."""

import ast
import dataclasses
import math
import types
import typing
from typing import Any

from flax import linen as nn

_FLAX_FIELDS = {"parent", "name"}  # that linen gives every module


def fields(config: Any) -> list[str]:
    """The names of the settings of a dataclass or of its type; for a linen module without flax's own."""
    kind = config if isinstance(config, type) else type(config)
    names = [field.name for field in dataclasses.fields(kind)]
    return [name for name in names if not (issubclass(kind, nn.Module) and name in _FLAX_FIELDS)]


def to_json(value: Any) -> Any:
    """Dataclasses as objects with their type's name, tuples as lists, everything else as it is."""
    if dataclasses.is_dataclass(value):
        settings = {name: to_json(getattr(value, name)) for name in fields(value)}
        return {"type": type(value).__name__, **settings}
    return [to_json(item) for item in value] if isinstance(value, tuple | list) else value


def from_json(value: Any, hint: Any) -> Any:
    """What `to_json` was given, of the annotated type; a setting that is missing has its default.

    ValueError for a type or a setting that there is none of.
    """
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if isinstance(value, list):
        (item, *_) = next(typing.get_args(option) for option in options if typing.get_origin(option) is tuple)
        return tuple(from_json(each, item) for each in value)
    if not isinstance(value, dict):
        return value
    given = {name: setting for name, setting in value.items() if name != "type"}
    kind = next((option for option in options if getattr(option, "__name__", None) == value.get("type")), None)
    if kind is None or (unknown := given.keys() - set(fields(kind))):
        what = f"no {value.get('type')!r}" if kind is None else f"{kind.__name__} has no field {min(unknown)!r}"
        raise ValueError(f"not of this version of poisonjax: {what}")
    hints = typing.get_type_hints(kind)
    return kind(**{name: from_json(setting, hints[name]) for name, setting in given.items()})


def override(config: Any, assignment: str) -> Any:
    """config with `path.to.field=value` set. ValueError, one line, naming what is allowed.

    Values are written as in Python, with `none`, `true`, `false` and fractions such as 8/255; a part is replaced
    whole by its type's name with arguments, as in `poison.trigger=Square(size=4)`. An element of a tuple is
    addressed by its `name`, as in `arms.pgd_at.poisoned=false`.
    """
    path, equals, text = assignment.partition("=")
    if not (equals and path and text):
        raise ValueError("must have the form section.field=value, as in poison.rate=.05")
    return _set(config, path.split("."), text, "")


def _set(config: Any, path: list[str], text: str, where: str) -> Any:
    name, *rest = path
    if isinstance(config, tuple):
        return _set_in_tuple(config, path, text, where)
    if not dataclasses.is_dataclass(config):
        raise ValueError(f"{where} is a single value ({config!r}) and has no field {name!r}")
    if name not in fields(config):
        raise ValueError(f"{where or 'the experiment'} has no field {name!r}; it has {', '.join(fields(config))}")
    inner = f"{where}.{name}" if where else name
    if rest:
        new = _set(getattr(config, name), rest, text, inner)
    else:
        new = parse(text, typing.get_type_hints(type(config))[name], inner)
    return _replaced(config, {name: new}, where)


def _set_in_tuple(config: tuple, path: list[str], text: str, where: str) -> tuple:
    name, *rest = path
    names = [getattr(item, "name", None) for item in config]
    if name not in names or not rest:
        raise ValueError(f"{where} has no {name!r}; it has {', '.join(map(str, names))}, each with fields")
    return tuple(_set(item, rest, text, f"{where}.{name}") if item.name == name else item for item in config)


def _replaced(config: Any, change: dict, where: str) -> Any:
    try:
        return dataclasses.replace(config, **change)
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where else str(error)) from None


def parse(text: str, hint: Any, where: str) -> Any:
    """Text as a value of the annotated type. ValueError naming the place and what is allowed there."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if type(None) in options and text.lower() == "none":
        return None
    for option in options:
        if option is not type(None):
            value = _as_type(text.strip(), option, where)
            if value is not _NO:
                return value
    raise ValueError(f"{where} must be {' or '.join(_spell(option) for option in options)}, got {text!r}")


_NO = object()


def _as_type(text: str, option: Any, where: str) -> Any:
    if dataclasses.is_dataclass(option):
        return _as_dataclass(text, option, where)
    if typing.get_origin(option) is tuple:
        (item, *_) = typing.get_args(option)
        parts = [part for part in text.strip("()").split(",") if part.strip()]
        return tuple(parse(part, item, where) for part in parts)
    if option is bool:
        return {"true": True, "false": False}.get(text.lower(), _NO)
    if option is str:
        return text
    try:
        top, slash, bottom = text.partition("/")
        value = option(top) / option(bottom) if slash and option is float else option(text)
    except (ValueError, ZeroDivisionError):
        return _NO
    return value if math.isfinite(value) else _NO


def _as_dataclass(text: str, option: type, where: str) -> Any:
    """`Name(1, field=2)` as that dataclass, or _NO if it is not a call of that name."""
    try:
        call = ast.parse(text, mode="eval").body
    except SyntaxError:
        return _NO
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == option.__name__):
        return _NO
    names = fields(option)
    given = dict(zip(names, call.args, strict=False)) | {word.arg: word.value for word in call.keywords}
    if unknown := [name for name in given if name not in names]:
        raise ValueError(f"{where}: {option.__name__} has no field {unknown[0]!r}; it has {', '.join(names)}")
    hints = typing.get_type_hints(option)
    try:
        return option(
            **{name: parse(ast.unparse(node), hints[name], f"{where}.{name}") for name, node in given.items()}
        )
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: {error}") from None


def _spell(option: Any) -> str:
    """A type as a user would write its values."""
    if option is type(None):
        return "none"
    if dataclasses.is_dataclass(option):
        return f"{option.__name__}(...)"
    return {int: "a whole number", float: "a number", bool: "true or false"}.get(option, str(option))
