"""Settings: typed, documented, loaded from YAML, overridden by ``name.of.setting``; unknown ones are errors."""

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
from egodepth.core.errors import EgodepthError
from egodepth.core.files import read_text, write_text
from egodepth.core.suggestions import did_you_mean

RENAMED = {"loss.standing": "loss.ground_contact"}
"""Dotted names that files of earlier versions hold, and what they are called now."""


class Settings(BaseModel):
    """Base of every group of settings. The text below a field is its help."""

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
        """Refuse true and false where a number belongs; Pydantic would read them as 1 and 0."""
        values = value if isinstance(value, list | tuple) else [value]
        kinds = types_within(cls.model_fields[info.field_name or ""].annotation)
        if bool not in kinds and any(isinstance(item, bool) for item in values):
            raise PydanticCustomError("truth_for_a_number", "must not be true or false")
        return value

    def changed(self, **changes: Any) -> Self:
        """Return a validated copy with some settings changed:
        ``settings.changed(steps=5000, data={"fov": 70})``.

        Args:
            changes: new values by name; for a group either the whole group, or what changes in it.

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
        """Refuse Pydantic's copy with updates, which would not validate them; :meth:`changed` does."""
        return super().model_copy(deep=deep).changed(**(update or {}))


SettingsT = TypeVar("SettingsT", bound=Settings)


class Setting(NamedTuple):
    """One leaf of a tree of settings, as the command line shows it."""

    name: str
    annotation: Any
    default: Any
    help: str


def list_settings(settings: Settings, prefix: str = "") -> Iterator[Setting]:
    """Yield every leaf of ``settings`` with its dotted name, current value as default, and help."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, Settings):
            yield from list_settings(value, f"{prefix}{name}.")
        else:
            yield Setting(prefix + name, field.annotation, value, field.description or "")


def override(settings: SettingsT, changes: Mapping[str, Any]) -> SettingsT:
    """Return ``settings`` with dotted names replaced, for example ``{"data.stride": "2"}``.

    Strings are read as YAML where the field is not a string itself, so that ``"[1, 2]"``, ``"null"``
    and ``"2"`` do what they say.

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
    """Read a YAML file of settings; fields that it leaves out keep their defaults.

    Args:
        kind: the settings that the file, or its ``section``, holds.
        path: the file.
        section: top-level name below which the settings stand.
        strict: whether names that ``kind`` does not know are an error; else they are left out.

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
    """Return ``settings`` with those in a YAML file replaced.

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
    """Write every setting, defaults included, as YAML."""
    write_text(path, yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False))


def _read_tree(path: str | Path) -> dict[str, Any]:
    text = read_text(path, "the settings file")
    try:
        tree = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise EgodepthError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
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
        return yaml.safe_load(value)
    except yaml.YAMLError:
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
    """Say in one line what is wrong with the first wrong value: which one, what is allowed, what was got.

    Args:
        kind: what was to be made.
        error: why it was not.
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
    return f"{'.'.join(names)} must be {wanted}, got {got(value)}"
