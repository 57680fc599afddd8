"""Typed, documented settings, loaded from YAML and overridden by dotted name; unknown names are errors."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from egodepth.core.allowed import allowed, got, types_within
from egodepth.core.errors import EgodepthError, require
from egodepth.core.files import parse_yaml, read_yaml, write_text
from egodepth.core.suggestions import did_you_mean

RENAMED = {"loss.standing": "loss.ground_contact"}
"""Dotted names of settings in files of earlier versions, and their current names."""


class Settings(BaseModel):
    """Base of all groups of settings. The docstring of a field is its help text."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Reject true and false where a number is expected; Pydantic would read them as 1 and 0."""
        values = value if isinstance(value, list | tuple) else [value]
        kinds = types_within(cls.model_fields[info.field_name or ""].annotation)
        if bool not in kinds and any(isinstance(item, bool) for item in values):
            raise PydanticCustomError("truth_for_a_number", "must not be true or false")
        return value

    def changed(self, **changes: Any) -> Self:
        """Return a validated copy with some settings changed:
        ``settings.changed(steps=5000, data={"fov": 70})``.

        Args:
            changes: new values by name; for a group, either the whole group or a mapping of its changes.

        Raises:
            EgodepthError: an unknown name or a value of the wrong type or range.
        """
        tree = self.model_dump()
        for name, value in changes.items():
            if isinstance(value, Settings):
                tree[name] = value.model_dump()
            elif isinstance(value, Mapping) and isinstance(getattr(self, name, None), Settings):
                tree[name] = {**tree[name], **value}
            else:
                tree[name] = value
        return _validate(type(self), tree, "settings")

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy with validated updates, by :meth:`changed`; Pydantic's own method does not validate them."""
        return super().model_copy(deep=deep).changed(**(update or {}))


SettingsT = TypeVar("SettingsT", bound=Settings)


class Setting(NamedTuple):
    """One leaf of a tree of settings, as the command line shows it."""

    name: str
    annotation: Any
    default: Any
    help: str


def list_settings(settings: Settings, prefix: str = "") -> Iterator[Setting]:
    """Yield every leaf of ``settings`` with its dotted name, its current value as the default, and its help."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, Settings):
            yield from list_settings(value, f"{prefix}{name}.")
        else:
            yield Setting(prefix + name, field.annotation, value, field.description or "")


def override(settings: SettingsT, changes: Mapping[str, Any]) -> SettingsT:
    """Return ``settings`` with dotted names replaced, for example ``{"data.stride": "2"}``.

    Strings are parsed as YAML unless the field is itself a string, so that ``"[1, 2]"``, ``"null"``
    and ``"2"`` mean a list, None and a number.

    Raises:
        EgodepthError: an unknown name or a value of the wrong type or range.
    """
    if not isinstance(changes, Mapping):
        raise EgodepthError(
            f"changes of settings must be names and values, such as {{'data.fov': 60}}, got {changes!r}"
        )
    known = {setting.name: setting for setting in list_settings(settings)}
    tree = settings.model_dump()
    for name, value in changes.items():
        if name in RENAMED:
            raise EgodepthError(f"the setting {name} is called {RENAMED[name]} now")
        if name not in known:
            raise EgodepthError(f"unknown setting {name!r}; {_suggest(name, known)}")
        *groups, leaf = name.split(".")
        node = tree
        for group in groups:
            node = node[group]
        node[leaf] = _parse(value, known[name].annotation)
    return _validate(type(settings), tree, "settings")


def load(
    kind: type[SettingsT], path: str | Path, section: str | None = None, *, strict: bool = True
) -> SettingsT:
    """Read a YAML file of settings; missing fields keep their defaults.

    Args:
        kind: type of the settings in the file, or in its ``section``.
        path: the file.
        section: top-level name that the settings are below.
        strict: whether names unknown to ``kind`` are an error; else they are ignored.

    Raises:
        EgodepthError: missing file, broken YAML, unknown name, wrong type.
    """
    tree = _read_tree(path)
    if section is not None:
        tree = tree.get(section) or {}
    if not strict:
        tree = {name: value for name, value in tree.items() if name in kind.model_fields}
    return _validate(kind, tree, str(path))


def merge_file(settings: SettingsT, path: str | Path) -> SettingsT:
    """Return ``settings`` overridden by those in a YAML file.

    Raises:
        EgodepthError: as :func:`load`.
    """

    def merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
        both = {
            name: merge(old[name], value)
            if isinstance(value, dict) and isinstance(old.get(name), dict)
            else value
            for name, value in new.items()
        }
        return old | both

    return _validate(type(settings), merge(settings.model_dump(), _read_tree(path)), str(path))


def save(settings: Settings, path: str | Path) -> None:
    """Write all settings, including defaults, as YAML."""
    save_tree(settings.model_dump(mode="json"), path)


def save_tree(tree: Mapping[str, Any], path: str | Path) -> None:
    """Write settings given as names and values as YAML. The last line says how many there are, so that a file
    that lost some can be told from one of an earlier version, which had fewer."""
    end = f"# end of {count_settings(tree)} settings\n"
    write_text(path, yaml.safe_dump(dict(tree), sort_keys=False) + end)


def count_settings(tree: Mapping[str, Any]) -> int:
    """Number of names at the top and in the groups below it."""
    return len(tree) + sum(len(value) for value in tree.values() if isinstance(value, dict))


def _read_tree(path: str | Path) -> dict[str, Any]:
    require(path, (str, Path), "path", "the path of a settings file")
    tree = read_yaml(path, "the settings file")
    if tree is None:
        raise EgodepthError(f"the settings file {path} is empty")
    if not isinstance(tree, dict):
        raise EgodepthError(f"{path} must hold names and values, got a {type(tree).__name__}")
    for old, new in RENAMED.items():
        group, old_name = old.split(".")
        values = tree.get(group)
        if isinstance(values, dict) and old_name in values:
            values[new.removeprefix(f"{group}.")] = values.pop(old_name)
    return tree


def _parse(value: Any, annotation: Any) -> Any:
    is_path = annotation is Path or Path in get_args(annotation)
    is_text = annotation is str or (is_path and value != "null")
    if is_text or not isinstance(value, str):
        return value
    try:
        return parse_yaml(value)
    except (yaml.YAMLError, ValueError, RecursionError):
        return value


def _suggest(name: str, known: Iterable[str]) -> str:
    return did_you_mean(name, known, "see `egodepth train --help` for all names")


def _validate(kind: type[SettingsT], tree: dict[str, Any], where: str) -> SettingsT:
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] in ("extra_forbidden", "invalid_key"):
            name = ".".join(map(str, first["loc"]))
            known = [setting.name for setting in list_settings(kind())]
            raise EgodepthError(
                f"unknown setting {name!r} in {where}; {_suggest(name, known)}"
            ) from error
        raise EgodepthError(f"{where}: {explain(kind, error, tree)}") from error


def explain(kind: type[BaseModel], error: ValidationError, given: Mapping[str, Any]) -> str:
    """Explain the first wrong value in one line: its name, what is allowed, and what was given.

    Args:
        kind: model that failed to validate.
        error: the validation error.
        given: the values, by name.
    """
    first = error.errors()[0]
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, ")
    names, value, wanted = [], given, "names and values"
    for part in first["loc"]:
        field = kind.model_fields[str(part)]
        names.append(str(part))
        value, wanted = value[str(part)], allowed(field.annotation, field.metadata)
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            break
        kind = field.annotation
    if first["type"] == "finite_number":
        wanted = wanted.replace("a number", "a finite number")
    return f"{'.'.join(names) or 'the whole'} must be {wanted}, got {got(value)}"
