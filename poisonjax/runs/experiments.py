"""Experiment files: those of poisonjax by name, any other by its path or as a module."""

import ast
import importlib
import importlib.util
import os
import pathlib
import sys
import traceback
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from poisonjax.spelling import unknown

if TYPE_CHECKING:
    from poisonjax.data import Dataset
    from poisonjax.experiment import Data, Experiment

_INSTALLED = pathlib.Path(__file__).parents[1] / "experiments"
_CHECKOUT = pathlib.Path(__file__).parents[2] / "experiments"
_WITH_TORCH = {"torch", "foolbox", "art"}  # packages of the extra of that name


def folder() -> pathlib.Path:
    """The folder of poisonjax's own experiments: of the checkout, or of the installed package."""
    return _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT


def names() -> list[str]:
    """poisonjax's own experiments."""
    return sorted(path.stem for path in folder().glob("[!_]*.py"))


def claim(name: str) -> str:
    """The first line of the docstring of one of them, read without running it."""
    try:
        return (ast.get_docstring(ast.parse((folder() / f"{name}.py").read_bytes())) or "").partition("\n")[0]
    except SyntaxError as error:
        return f"(broken: line {error.lineno}: {error.msg})"
    except (OSError, ValueError) as error:
        return f"(broken: {error})"


def check(given: str) -> None:
    """ValueError if `load` would find nothing; imports nothing, so that a slip is told at once."""
    if _file(given) is None and given.lower().removesuffix(".py") not in names():
        if os.sep in given:
            raise ValueError(f"there is no file {given}")
        if not _exists(given):
            raise ValueError(unknown("experiment", given.removesuffix(".py"), names()))


def load(given: str) -> ModuleType:
    """The module of an experiment: a name of `names`, the path of a file, or the name of a module.

    A file is loaded as a module of its stem, so that its types have names of the form stem:Name; the modules beside it
    can be imported. ValueError, one line with file and line number if it cannot be imported.
    """
    check(given)
    name, path = given.lower().removesuffix(".py"), _file(given)
    if path is not None and path.parent != folder().resolve():
        return _load_file(path)
    if path is not None:
        name = path.stem
    if name in names():
        return _imported(lambda: importlib.import_module(f"{_package()}.{name}"), folder() / f"{name}.py")
    return _imported(lambda: importlib.import_module(given), _origin(given) or given)


def _file(given: str) -> pathlib.Path | None:
    """The file that is meant, if one is; the name of one of poisonjax's own experiments means that."""
    if given in names():
        return None
    return next((path.resolve() for path in map(pathlib.Path, (given, f"{given}.py")) if path.is_file()), None)


def build(given: str, scale: str) -> "Experiment":
    """The experiment of `load` at a scale. ValueError, one line with file and line number, if it cannot be built."""
    from poisonjax.experiment import Experiment

    module = load(given)
    file, stem = module.__file__, module.__name__.rpartition(".")[2]
    if not callable(getattr(module, "experiment", None)):
        raise ValueError(f"{file} has no function experiment(scale); it must return a poisonjax.Experiment")
    place = f"{file}:{getattr(getattr(module.experiment, '__code__', None), 'co_firstlineno', 1)}"
    made = _imported(lambda: module.experiment(scale), file, place)
    if not isinstance(made, Experiment):
        raise ValueError(f"{place}: experiment({scale!r}) must return a poisonjax.Experiment, got {made!r}")
    if made.name != stem:
        raise ValueError(f"{file}: name is {made.name!r}; it must be that of the file, {stem!r}")
    return made


def load_object(given: str) -> Any:
    """The function, class or network that `file.py:name` or `module:name` names. ValueError, one line, without one."""
    source, colon, name = given.rpartition(":")
    if not colon or not name.isidentifier():
        raise ValueError(f"{given!r} must name a network, as file.py:logits_fn or module:logits_fn")
    module = load(source)
    if not callable(getattr(module, name, None)):
        raise ValueError(f"{module.__file__} has no function or network {name!r}")
    return getattr(module, name)


def get_experiment(name: str, scale: str = "small") -> "Experiment":
    """An experiment of poisonjax by its name, or of a file or module, to run or to derive another from.

    scale: one of `poisonjax.scales.SCALES`. ValueError if there is none, or it cannot be built.
    """
    import_types()
    return build(name, scale)


def configured(
    given: str, scale: str, assignments: Sequence[str], load: "Callable[[Data], Dataset] | None" = None
) -> "Experiment":
    """`build` with the overrides of --set. ValueError naming the flag, the value and what is allowed.

    load: a data set as a whole. If the overrides name data of one's own, the experiment is fitted to them, so that the
    other overrides are of an experiment with their classes.
    """
    from poisonjax.data.sources import SOURCES

    import_types()
    experiment = build(given, scale)
    if load is not None and (chosen := [each for each in assignments if _of_data(each)]):
        changed = overridden(experiment, chosen)
        if changed.data.name not in SOURCES:
            whole, others = load(changed.data), [each for each in assignments if each not in chosen]
            try:
                fitted = changed.fitted(changed.data, whole)
            except ValueError:  # of which another override may be the cure, such as that of poison.target
                fitted = overridden(changed, others).fitted(changed.data, whole)
            return overridden(fitted, others)
    return overridden(experiment, assignments)


def _of_data(assignment: str) -> bool:
    """True if an override says which data are loaded."""
    path = assignment.partition("=")[0]
    return path in ("data", "data.name", "data.reading") or path.startswith("data.reading.")


def overridden(experiment: "Experiment", assignments: Sequence[str]) -> "Experiment":
    """The experiment with the overrides of --set. ValueError as `configured`."""
    from poisonjax.overrides import override

    for assignment in assignments:
        try:
            experiment = override(experiment, assignment)
        except ValueError as error:
            raise ValueError(f"--set {assignment}: {error}") from None
    return experiment


def import_types() -> None:
    """Import all of poisonjax that settings can name: types are looked up among those that are loaded."""
    for name in ("analyses", "attacks", "data.subsets", "defences", "models", "poisons", "training"):
        importlib.import_module(f"poisonjax.{name}")


def _package() -> str:
    """The package of poisonjax's own experiments; that of the checkout is found whatever sys.path says."""
    if _INSTALLED.is_dir():
        return "poisonjax.experiments"
    if "experiments" not in sys.modules:
        _executed("experiments", _CHECKOUT / "__init__.py", [str(_CHECKOUT)])
    return "experiments"


def _load_file(path: pathlib.Path) -> ModuleType:
    name = path.stem
    if not name.isidentifier():
        raise ValueError(f"{path} cannot be imported: rename it to letters, digits and _, as in my_experiment.py")
    there = getattr(sys.modules.get(name), "__file__", None)
    if there is not None and pathlib.Path(there).resolve() == path:
        return sys.modules[name]
    if name in sys.modules or (_exists(name) and _origin(name) != path):
        raise ValueError(f"{path} would hide the module {name}: rename the file")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # last, so that it hides nothing
    return _imported(lambda: _executed(name, path), path)


def _executed(name: str, path: pathlib.Path, folders: list[str] | None = None) -> ModuleType:
    """A new module of that name from a file; folders: where its own modules are, for a package."""
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=folders)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses look their annotations up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _exists(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _origin(name: str) -> pathlib.Path | None:
    origin = importlib.util.find_spec(name).origin
    return pathlib.Path(origin).resolve() if origin else None


def _imported(make: Callable[[], Any], file: str | os.PathLike, place: str = "") -> Any:
    """make(), with any error of the user's file as a ValueError that says in which line.

    place: where the error is if no line of the file was run.
    """
    try:
        return make()
    except SyntaxError as error:
        raise ValueError(f"{error.filename}:{error.lineno}: {error.msg}") from error
    except (Exception, SystemExit) as error:  # whatever the code of a user raises
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        place = f"{file}:{lines[-1]}" if lines else place or str(file)
        without_torch = isinstance(error, ImportError) and error.name in _WITH_TORCH
        cure = "; pip install 'poisonjax[torch]'" if without_torch else ""
        raise ValueError(f"{place}: {type(error).__name__}: {error}{cure}") from error
