"""A stage's frozen dataclass of options <-> command-line flags, a TOML table, a record to save.

Every field is a flag and a TOML key: ``batch_size: int = field(default=32, metadata={"help": ...})`` becomes
``--batch-size`` and, in the stage's table of the TOML file, ``batch_size``. A flag wins over the file, the
file over the default.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Never, TypeVar

from pyrad.errors import UsageError

Options = TypeVar("Options")


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line and an exception, not a page and an exit."""

    def error(self, message: str) -> Never:
        """Raise what argparse would have printed."""
        raise UsageError(f"{message}; see {self.prog} --help")


def add_flags(parser: argparse.ArgumentParser, options: type) -> None:
    """Give ``parser`` one flag (or positional) for each field of the dataclass ``options``.

    Fields whose metadata have the same ``group`` stand together in the help, under that title.
    """
    hints = typing.get_type_hints(options)
    groups: dict[str, argparse._ArgumentGroup] = {}  # by their titles, in the order of their first fields
    for field in dataclasses.fields(options):
        kind, many = _kind(hints[field.name])
        title = field.metadata.get("group")
        if title and title not in groups:
            groups[title] = parser.add_argument_group(title)
        home = groups[title] if title else parser
        # SUPPRESS tells "not given" from "given as the default": a TOML value may then stand between.
        settings: dict[str, Any] = {"default": argparse.SUPPRESS, "help": _help(field)}
        if field.metadata.get("choices"):
            settings["choices"] = field.metadata["choices"]
        if field.metadata.get("metavar"):
            settings["metavar"] = field.metadata["metavar"]
        if field.metadata.get("positional"):
            # Never required here: the TOML file may give it, and `resolve` asks for what nobody gave.
            settings |= {"nargs": "*"} if many else {"nargs": "?", "default": None}
            home.add_argument(field.name, type=kind, **settings)
        elif kind is bool:
            home.add_argument(_flag(field.name), action=argparse.BooleanOptionalAction, **settings)
        elif many:
            settings.setdefault("metavar", "A,B,...")
            settings.pop("choices", None)
            home.add_argument(_flag(field.name), type=_comma_separated(kind), **settings)
        else:
            settings.setdefault("metavar", kind.__name__.upper())
            if "choices" in settings:
                settings.pop("metavar")
            home.add_argument(_flag(field.name), type=kind, **settings)


def resolve(
    options: type[Options], flags: Mapping[str, Any], config: Path | None = None, table: str = ""
) -> Options:
    """Build the dataclass from its defaults, a TOML file's ``table`` and the given ``flags``.

    Raises:
        UsageError: the file cannot be read or parsed, or names a key that is no option; a required option is
            missing; or the dataclass refuses a value.

    """
    fields: dict[str, dataclasses.Field[Any]] = {
        field.name: field
        for field in dataclasses.fields(options)  # type: ignore[arg-type]
    }
    given = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in flags.items()
        if value is not None
    }
    values = {**_from_toml(config, table, options, fields), **given}
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            word = name.upper() if field.metadata.get("positional") else _flag(name)
            raise UsageError(f"{word} is required ({field.metadata.get('help', name)})")
    return options(**values)


def as_record(options: Any) -> dict[str, Any]:
    """Return the options as plain JSON values, in field order, for the run's record."""
    return {field.name: _plain(getattr(options, field.name)) for field in dataclasses.fields(options)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return as_record(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _from_toml(
    config: Path | None, table: str, options: type, fields: Mapping[str, dataclasses.Field[Any]]
) -> dict[str, Any]:
    if config is None:
        return {}
    try:
        document = tomllib.loads(Path(config).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--config {config}: {error.strerror}; give the path of a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {config} is not valid TOML: {error}") from None
    given = document.get(table)
    if not isinstance(given, dict):
        raise UsageError(
            f"--config {config} has no table [{table}]; it has {', '.join(document) or 'nothing'}"
        )
    hints = typing.get_type_hints(options)
    values = {}
    for key, value in given.items():
        if key not in fields:
            near = difflib.get_close_matches(key, fields, 1)
            hint = f"; did you mean {near[0]}?" if near else ";"
            raise UsageError(
                f"--config {config}: [{table}] has no key {key!r}{hint} allowed: {', '.join(fields)}"
            )
        values[key] = _from_toml_value(value, hints[key], f"--config {config}: [{table}] {key}")
        choices = fields[key].metadata.get("choices")
        if choices and value not in choices:
            raise UsageError(f"--config {config}: [{table}] {key} = {value!r}; allowed: {', '.join(choices)}")
    return values


def _from_toml_value(value: Any, hint: Any, where: str) -> Any:
    kind, many = _kind(hint)
    if many:
        if not isinstance(value, list):
            raise UsageError(f"{where} = {value!r}; a list is due")
        return tuple(
            _from_toml_value(item, kind, f"{where}, item {number},") for number, item in enumerate(value, 1)
        )
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise UsageError(f"{where} = {value!r}; a value of type {kind.__name__} is due")
    return value


def _kind(hint: Any) -> tuple[type, bool]:
    """``X | None`` -> (X, False); ``tuple[X, ...]`` -> (X, True); ``Literal["a"]`` -> (str, False)."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (hint,) = (arm for arm in typing.get_args(hint) if arm is not type(None))
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)[0], True
    if typing.get_origin(hint) is typing.Literal:
        return str, False
    return hint, False


def _help(field: dataclasses.Field[Any]) -> str:
    text = str(field.metadata.get("help", "")).replace("%", "%%")
    default = field.default
    if default is dataclasses.MISSING or default is None or default in ("", ()):
        return text
    if isinstance(default, bool):
        default = "on" if default else "off"
    return f"{text} (default: {default})".replace("5%)", "5%%)")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _comma_separated(kind: type) -> Any:
    def parse(text: str) -> tuple[Any, ...]:
        return tuple(kind(part.strip()) for part in text.split(",") if part.strip())

    parse.__name__ = f"comma-separated list of {kind.__name__}"
    return parse
