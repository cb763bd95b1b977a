"""Settings as text: `section.field=value` into frozen dataclasses, and dataclasses to and from JSON.

Types are looked up by name among the loaded concrete subclasses of the annotated base class, so a user's own class is
found once its module is imported. Nothing here imports a module.
"""

import ast
import dataclasses
import inspect
import math
import re
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from flax import linen as nn

from poisonjax.spelling import meant

_FLAX_FIELDS = {"parent", "name"}  # that linen adds to every module
_NOT_SETTINGS = {"flax", "abc"}  # where flax puts its own modules, and those that nn.remat and nn.vmap derive
_QUALIFIED = re.compile(r"""("[^"]*"|'[^']*')|(?<=\w):(?=[^\W\d]\w*\s*\()""")  # a string, or the colon of module:Name(
_NO_VALUE = object()


def to_json(config: Any) -> Any:
    """Dataclasses as objects with their type's name, tuples as lists, everything else as it is.

    A type of another package is written as `module:Name`. ValueError for a setting that `from_json` could not read:
    one that JSON has no form for, or an object that is no dataclass of the annotated family.
    """
    return _json_of(config, type(config), "")


def from_json(value: Any, hint: Any) -> Any:
    """The value that `to_json` was given, of the annotated type; missing settings get their defaults.

    Imports nothing: ValueError for a type that is not loaded, naming its module, and for unknown types and settings.
    """
    if isinstance(value, list):
        return tuple(from_json(item, _item_hint(hint, place)) for place, item in enumerate(value))
    if not isinstance(value, dict):
        return value
    name, kinds = str(value.get("type")), members(hint)
    kind = next((kind for kind in kinds if type_name(kind) == name), None)
    if kind is None:
        raise ValueError(_unknown(name, kinds))
    given, hints = {key: setting for key, setting in value.items() if key != "type"}, _hints(kind)
    if unknown := given.keys() - _settings(kind):
        raise ValueError(f"{_no_field(name, min(unknown), kind)} (written by another version of poisonjax?)")
    return _build(kind, {key: from_json(setting, hints[key]) for key, setting in given.items()})


def override(config: Any, assignment: str) -> Any:
    """config with `path.to.field=value` set. ValueError, one line, naming what is allowed.

    Values are written as in Python, with `none`, `true`, `false` and fractions such as 8/255. A part is replaced whole
    by its type's name with arguments, as in `poison.trigger=BrightSquare(size=4)`, or `my_module:Sinus(.3)` where two
    modules have a type of that name. Elements of tuples are addressed by `name`, as in `arms.pgd_at.poisoned=false`.
    """
    path, equals, text = assignment.partition("=")
    if not (equals and path and text):
        raise ValueError("must have the form section.field=value, as in poison.rate=.05")
    return _set(config, type(config), path.split("."), text, "")


def parse(text: str, hint: Any, where: str) -> Any:
    """Text as a value of the annotated type. ValueError naming the place and what is allowed there."""
    text, options, kinds = text.strip(), _options(hint), members(hint)
    if type(None) in options and text.lower() == "none":
        return None
    call = _call(text) if kinds else None
    if call is not None and (kind := _called_kind(call, kinds, where)) is not None:
        return _from_call(text, call, kind, where)
    for option in options:
        if (value := _as_type(text, option, where)) is not _NO_VALUE:
            return value
    near = meant(text.partition("(")[0], [kind.__name__ for kind in kinds])
    raise ValueError(f"{where} must be {' or '.join(map(_spell, options))}, got {text!r}{near}")


def members(hint: Any) -> list[type]:
    """The loaded dataclasses that an annotation allows: the concrete ones among its classes and their subclasses.

    Of several classes of one name and module, as after a cell of a notebook ran again, the one that the module has now.
    """
    found: dict[str, type] = {}
    for option in _options(hint):
        for kind in filter(_is_concrete, _descendants(option)):
            name = _full_name(kind)
            if name not in found or not _is_current(found[name]):
                found[name] = kind
    return list(found.values())


def type_name(kind: type) -> str:
    """A type as JSON names it: `Name` if it is of poisonjax, else `module:Name`."""
    return kind.__name__ if _module(kind).partition(".")[0] == __package__ else _full_name(kind)


def _full_name(kind: type) -> str:
    return f"{_module(kind)}:{kind.__name__}"


def _module(kind: type) -> str:
    """The module of a type; for the script that Python was started with, the name under which others import it."""
    if kind.__module__ != "__main__":
        return kind.__module__
    main = sys.modules["__main__"]
    if spec := getattr(main, "__spec__", None):
        return spec.name
    return Path(main.__file__).stem if hasattr(main, "__file__") else "__main__"


def _descendants(kind: Any) -> Iterator[type]:
    """The class itself and all subclasses, in the order of their definition; nothing for what is no class."""
    if isinstance(kind, type):
        yield kind
        for child in type.__subclasses__(kind):
            yield from _descendants(child)


def _is_concrete(kind: type) -> bool:
    if not dataclasses.is_dataclass(kind) or inspect.isabstract(kind) or kind.__name__.startswith("_"):
        return False
    return kind.__module__.partition(".")[0] not in _NOT_SETTINGS


def _is_current(kind: type) -> bool:
    """True if the module of a class still has it, looked up without a module's own `__getattr__`."""
    return getattr(sys.modules.get(kind.__module__), "__dict__", {}).get(kind.__name__) is kind


def _options(hint: Any) -> tuple:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _item_hint(hint: Any, place: int) -> Any:
    """The annotation of an element of a tuple; Any if there is none."""
    for option in _options(hint):
        if typing.get_origin(option) is tuple:
            items = typing.get_args(option)
            return items[0] if Ellipsis in items else items[min(place, len(items) - 1)]
    return Any


def _hints(kind: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind)
    except NameError as error:
        raise ValueError(f"{_full_name(kind)}: annotations must be names of its module, but {error}") from None


def _settings(kind: type) -> dict[str, dataclasses.Field]:
    """The fields of a dataclass that its user sets; for a linen module without flax's own."""
    hidden = _FLAX_FIELDS if issubclass(kind, nn.Module) else ()
    return {field.name: field for field in dataclasses.fields(kind) if field.init and field.name not in hidden}


def _is_required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _build(kind: type, settings: dict[str, Any]) -> Any:
    """An object of a dataclass with these settings. ValueError for missing and impossible ones."""
    required = [name for name, field in _settings(kind).items() if _is_required(field)]
    if missing := [name for name in required if name not in settings]:
        raise ValueError(f"{kind.__name__} needs {' and '.join(missing)}")
    try:
        return kind(**settings)
    except TypeError as error:
        raise ValueError(f"{kind.__name__}: {error}") from None


def _json_of(value: Any, hint: Any, where: str) -> Any:
    if dataclasses.is_dataclass(value):
        kind, kinds = type(value), members(hint)
        if where and type_name(kind) not in map(type_name, kinds):
            raise ValueError(f"{where} must be a dataclass of {_family(hint)}, got {type_name(kind)}")
        hints, prefix = _hints(kind), f"{where}." if where else ""
        settings = {name: _json_of(getattr(value, name), hints[name], prefix + name) for name in _settings(kind)}
        return {"type": type_name(kind), **settings}
    if isinstance(value, tuple | list):
        return [_json_of(item, _item_hint(hint, place), f"{where}.{place}") for place, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(
        f"{where} must be a number, a string, a tuple or a frozen dataclass, so that it can be saved, "
        f"got {type(value).__name__}"
    )


def _family(hint: Any) -> str:
    return " or ".join(
        "none" if option is type(None) else getattr(option, "__name__", str(option)) for option in _options(hint)
    )


def _unknown(name: str, kinds: list[type]) -> str:
    module, is_foreign, _ = name.rpartition(":")
    if is_foreign and module not in sys.modules:
        source = module if "." in module else f"{module}.py"
        return f"unknown type {name!r}; name the experiment or module that defines it, --experiment={source}"
    names = [type_name(kind) for kind in kinds]
    return f"unknown type {name!r}; allowed: {', '.join(names) or 'none'}{meant(name, names)}"


def _no_field(what: str, name: str, kind: type) -> str:
    return f"{what} has no field {name!r}; it has {', '.join(_settings(kind)) or 'none'}{meant(name, _settings(kind))}"


def _set(value: Any, hint: Any, path: list[str], text: str, where: str) -> Any:
    """The value with the text at a path below it, or as a whole at the end of the path."""
    if not path:
        return parse(text, hint, where)
    if isinstance(value, tuple):
        return _set_in_tuple(value, hint, path, text, where)
    name, *rest = path
    if not dataclasses.is_dataclass(value):
        raise ValueError(f"{where} is a single value ({value!r}) and has no field {name!r}")
    if name not in _settings(type(value)):
        raise ValueError(_no_field(where or "the experiment", name, type(value)))
    inner = f"{where}.{name}" if where else name
    new = _set(getattr(value, name), _hints(type(value))[name], rest, text, inner)
    try:
        return dataclasses.replace(value, **{name: new})
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where else str(error)) from None


def _set_in_tuple(value: tuple, hint: Any, path: list[str], text: str, where: str) -> tuple:
    name, *rest = path
    names = [getattr(item, "name", None) for item in value]
    if name not in names:
        there = list(filter(None, names))
        what = ", ".join(there) or "no named elements and is set as a whole"
        raise ValueError(f"{where} has no {name!r}; it has {what}{meant(name, there)}")
    place = names.index(name)
    new = _set(value[place], _item_hint(hint, place), rest, text, f"{where}.{name}")
    return (*value[:place], new, *value[place + 1 :])


def _expression(text: str) -> ast.expr | None:
    """Text as a Python expression, `module:Name(...)` as `module.Name(...)`; None if it is none."""
    try:
        return ast.parse(_QUALIFIED.sub(lambda match: match[1] or ".", text), mode="eval").body
    except (SyntaxError, ValueError):
        return None


def _call(text: str) -> ast.Call | None:
    node = _expression(text)
    return node if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute) else None


def _called_kind(call: ast.Call, kinds: list[type], where: str) -> type | None:
    """The type that `Name(...)` or `module:Name(...)` means; None if no type of this name is allowed."""
    module, is_qualified, name = ast.unparse(call.func).rpartition(".")
    named = [kind for kind in kinds if kind.__name__ == name and module in ("", _module(kind))]
    if len(named) > 1:
        choices = " or ".join(f"{_full_name(kind)}(...)" for kind in named)
        raise ValueError(f"{where}: {name} is ambiguous; write {choices}")
    if is_qualified and not named:
        raise ValueError(f"{where}: {_unknown(f'{module}:{name}', kinds)}")
    return named[0] if named else None


def _from_call(text: str, call: ast.Call, kind: type, where: str) -> Any:
    """`Name(1, field=2)` as an object of that dataclass."""
    fields, hints = _settings(kind), _hints(kind)
    by_place = [name for name, field in fields.items() if not field.kw_only]
    if len(call.args) > len(by_place):
        raise ValueError(
            f"{where}: {kind.__name__} takes at most {len(by_place)} values in order, got {len(call.args)}"
        )
    given = [*zip(by_place, call.args, strict=False), *((word.arg, word.value) for word in call.keywords)]
    names = [name for name, _ in given]
    if unknown := [name for name in names if name not in fields]:
        raise ValueError(f"{where}: {_no_field(kind.__name__, unknown[0], kind)}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{where}: {kind.__name__} has {twice[0]} twice")
    values = {name: parse(_source(text, node), hints[name], f"{where}.{name}") for name, node in given}
    try:
        return _build(kind, values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _source(text: str, node: ast.expr) -> str:
    return ast.get_source_segment(text, node) or ast.unparse(node)


def _as_type(text: str, option: Any, where: str) -> Any:
    """Text as a value of a plain type, or _NO_VALUE."""
    if typing.get_origin(option) is tuple:
        return tuple(parse(part, _item_hint(option, place), where) for place, part in enumerate(_parts(text)))
    if typing.get_origin(option) is Literal:
        return next((value for value in typing.get_args(option) if str(value) == _unquoted(text)), _NO_VALUE)
    if option is bool:
        return {"true": True, "false": False}.get(text.lower(), _NO_VALUE)
    if option is str:
        return _unquoted(text)
    return _as_number(text, option) if option in (int, float) else _NO_VALUE


def _as_number(text: str, option: type) -> Any:
    try:
        top, slash, bottom = text.partition("/")
        value = option(top) / option(bottom) if slash and option is float else option(text)
    except (ValueError, ZeroDivisionError):
        return _NO_VALUE
    return value if math.isfinite(value) else _NO_VALUE


def _parts(text: str) -> list[str]:
    """The elements of a tuple, in brackets or not."""
    node = _expression(text)
    if node is None:
        return [part for part in text.strip("()").split(",") if part.strip()]
    return [_source(text, part) for part in (node.elts if isinstance(node, ast.Tuple) else [node])]


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _spell(option: Any) -> str:
    """A type as a user would write its values."""
    if option is type(None):
        return "none"
    if kinds := members(option):
        names = [kind.__name__ for kind in kinds]
        spelled = (kind.__name__ if names.count(kind.__name__) == 1 else _full_name(kind) for kind in kinds)
        return " or ".join(f"{name}(...)" for name in spelled)
    if typing.get_origin(option) is tuple:
        return f"a list, with commas, of {_spell(_item_hint(option, 0))}"
    if typing.get_origin(option) is Literal:
        return " or ".join(map(str, typing.get_args(option)))
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}.get(option, str(option))
