"""`module:attribute` in the user's own Python code: the file of the module, and the imported attribute."""

import importlib
import importlib.util
import os
import sys
from functools import reduce
from pathlib import Path
from typing import Any

from saescope.errors import SaeError, choices, nearest

_imported: dict[str, bytes] = {}
"""Module name → content of its file when it was imported."""


def file_of(target: str) -> str | None:
    """The module's file, or None without one; imports the packages above the module, but not the module."""
    _look_here()
    try:
        spec = importlib.util.find_spec(target.partition(":")[0])
    except KeyboardInterrupt:
        raise
    except BaseException:  # a package above it cannot be imported; `imported` reports it
        return None
    return spec.origin if spec and spec.has_location else None


def imported(target: str) -> Any:
    """The attribute named by `target`. Raises SaeError when it or its module cannot be imported."""
    _look_here()
    module_name, _, name = target.partition(":")
    try:
        module = importlib.import_module(module_name)
        file = file_of(target)
        content = Path(file).read_bytes() if file else b""
        if _imported.setdefault(module_name, content) != content:  # edited since an earlier job
            module = importlib.reload(module)
            _imported[module_name] = content
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the user's code raises, sys.exit() of a script included
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            raise SaeError(
                f"sae.target={target}: there is no module {error.name} in {os.getcwd()} or among the "
                "installed packages; start saescope where the file lies, or set PYTHONPATH"
            ) from error
        raise SaeError(f"sae.target={target}: importing {module_name} raised {brief(error)}") from error
    try:
        return reduce(getattr, name.split("."), module)
    except Exception as error:  # a module may answer for names it does not have
        if not isinstance(error, AttributeError):
            raise SaeError(f"sae.target={target}: {name} of {module_name} raised {brief(error)}") from error
        public = [key for key in vars(module) if not key.startswith("_")]
        raise SaeError(
            f"sae.target={target}: {module_name} has no {name}: {nearest(name, public)}"
            f"it has {choices(public) or 'nothing'}"
        ) from error


def brief(error: BaseException) -> str:
    """Type and text of an exception of the user's code."""
    try:
        return f"{type(error).__name__}: {error}".removesuffix(": ")
    except Exception:  # its own text raises
        return type(error).__name__


def _look_here() -> None:
    """Modules in the working directory can be imported, as with `python -m`."""
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())
