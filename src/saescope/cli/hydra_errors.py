"""Hydra's composition errors in one line of our own words, with the valid names."""

import dataclasses
import re
import typing

from hydra.errors import ConfigCompositionException, MissingConfigException

from saescope.config import AppConfig
from saescope.errors import choices, line, nearest


def in_one_line(error: Exception, root: type = AppConfig) -> str:
    """`error` of the configuration class `root` in one line, with what was valid."""
    command = "saescope --cfg job" if root is AppConfig else "saescope-coverage --help"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        valid = [name for name in error.options if name]
        return f"{group}={option} is not known: {nearest(option, valid)}valid: {choices(valid)}"
    text = line(str(error))
    if isinstance(error, OSError) and error.filename:
        return f"{error.strerror}: {error.filename}; choose another hydra.run.dir or hydra.sweep.dir"
    match = re.search(r"[Cc]ould not override '([^']+)'", text)
    if isinstance(error, ConfigCompositionException) and match:
        key = match[1].split("@")[0]
        parent, _, last = key.rpartition(".")
        keys = list(config_keys(root))
        if key in keys:
            return f"'{key}' does not apply to the chosen option of '{parent}'; see conf/{parent}/"
        siblings = [k.rpartition(".")[2] for k in keys if k.rpartition(".")[0] == parent]
        if siblings and not key.startswith("hydra"):
            return (
                f"unknown key '{key}': {nearest(last, siblings)}"
                f"valid under '{parent or 'the top level'}': {choices(siblings)}"
            )
        return f"unknown key '{key}': {nearest(key, keys)}`{command}` prints all keys"
    return f"{text.removesuffix('.')}; write overrides as key=value, see `{command.split()[0]} --help`"


def config_keys(kind: type, prefix: str = "") -> list[str]:
    """Dotted names of all fields, groups included."""
    out: list[str] = []
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        out.append(prefix + field.name)
        if dataclasses.is_dataclass(hints[field.name]):
            out += config_keys(hints[field.name], f"{prefix}{field.name}.")
    return out
