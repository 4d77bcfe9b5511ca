"""The hubble CLI's configuration file, read as defaults for our flags: its keys are the flags' names."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rich_click as click

from analyzer.errors import ManifestError, UsageError

__all__ = ["config_option", "defaults_from"]


def _places() -> tuple[Path, ...]:
    """Where the hubble CLI looks, in its order (Cilium hubble/pkg/defaults, with the folder of Go's os.UserConfigDir)."""
    home = Path(os.path.expanduser("~"))
    if sys.platform == "darwin":
        config_home = home / "Library" / "Application Support"
    else:
        config_home = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    return Path("config.yaml"), config_home / "hubble" / "config.yaml", home / ".hubble" / "config.yaml"


def defaults_from(path: Path, *, named: bool) -> Mapping[str, Any]:
    """What a configuration file says, by flag name.

    A file the user named has to be one; one that merely lies in a usual place counts only if it is a mapping.
    Raises UsageError.
    """
    from analyzer.manifests import load

    if named and path.is_dir():
        raise UsageError(f"{path} is a folder, not a configuration file", hint="check --config and HUBBLE_CONFIG")
    try:
        documents = list(load([str(path)], on_error=None if named else lambda error: None))
    except ManifestError as error:
        raise UsageError(f"not a configuration file: {error}", hint="check --config") from error
    return {str(key): value for document in documents[:1] for key, value in document.data.items()}


def _load(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    path = Path(value) if value else next((place for place in _places() if place.is_file()), None)
    if path is None or ctx.resilient_parsing:
        return value
    found = defaults_from(path, named=bool(value))
    known = {each.opts[-1].removeprefix("--"): each for each in ctx.command.params if each.opts and _configurable(each)}
    defaults = {}
    for key, setting in found.items():
        option = known.get(key)
        if option is None or not option.name or setting is None:
            continue
        if _fits(option, setting):
            defaults[option.name] = _as_given(option, setting)
        elif value:
            shape = "mapping" if isinstance(setting, dict) else "list"
            raise UsageError(f"{path}: {key} cannot be a {shape}", hint="check --config")
    ctx.default_map = defaults
    return value


def _configurable(param: click.Parameter) -> bool:
    """The flags with an environment variable are those that the hubble CLI takes from its file."""
    return isinstance(param, click.Option) and bool(param.envvar)


def _fits(option: click.Parameter, setting: Any) -> bool:
    return not isinstance(setting, dict | list) or (isinstance(setting, list) and getattr(option, "multiple", False))


def _as_given(option: click.Parameter, setting: Any) -> Any:
    if getattr(option, "multiple", False):
        return [str(each) for each in setting] if isinstance(setting, list) else [str(setting)]
    return setting if isinstance(setting, bool) else str(setting)


config_option = click.option(
    "--config", metavar="FILE", envvar="HUBBLE_CONFIG", is_eager=True, expose_value=False, callback=_load,
    help="The hubble CLI's configuration file.  [default: ./config.yaml, ~/.config/hubble/config.yaml, ~/.hubble/config.yaml]",
)  # fmt: skip
