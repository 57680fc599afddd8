"""The command-line parser: cyclopts parses the fields of the command classes.

cyclopts rather than tyro: tyro prints its own errors in boxes of five or more lines, and reads neither
``--minutes null`` nor ``--data.sources '[a, b]'`` nor ``--automask false``.
"""

import inspect
import itertools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from typing import Annotated, Any, Literal, get_args, get_origin

from cyclopts import App, CycloptsError, Group, Parameter, Token
from cyclopts.exceptions import (
    CoercionError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)
from cyclopts.exceptions import ValidationError as InvalidError
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from egodepth.cli.command import Command, Metavar, OptionsOf, Positional
from egodepth.cli.root import Root
from egodepth.core.allowed import allowed, as_typed, types_within
from egodepth.core.config import RENAMED
from egodepth.core.suggestions import did_you_mean, nearest_name

COMMANDS = {
    "demo": "demo:Demo",
    "train": "train:Train",
    "shard": "shard:Shard",
    "pretrain": "pretrain:Pretrain",
    "confidence": "confidence:LearnConfidence",
    "predict": "predict:Predict",
    "odometry": "odometry:Odometry",
    "refine": "refine:Refine",
    "evaluate depth": "evaluate:EvaluateDepth",
    "evaluate odometry": "evaluate:EvaluateOdometry",
    "leaderboard": "leaderboard:Leaderboard",
    "data check": "data:CheckData",
    "data sets": "data:ListSets",
    "data splits": "data:ListSplits",
    "data protocols": "data:ListProtocols",
    "import featdepth": "published:ImportFeatDepth",
    "landscape": "landscape:DrawLandscape",
    "judge": "judge:JudgeLosses",
    "export points": "export:ExportPoints",
    "export mesh": "export:ExportMesh",
    "export colmap": "export:ExportColmap",
    "export nerfstudio": "export:ExportNerfstudio",
    "export rerun": "export:ExportRerun",
    "export hub": "export:ExportHub",
    "export onnx": "export:ExportOnnx",
    "batch predict": "batch:BatchPredict",
    "batch odometry": "batch:BatchOdometry",
    "view": "view:ViewRun",
    "live": "view:ViewLive",
    "ros": "ros:RosNode",
    "report": "report:WriteReport",
}
"""Module (in this package) and class of every command, by name."""
FAMILIES = {
    "evaluate": "Score depth or a trajectory against ground truth.",
    "data": "List known data sets, splits and protocols, and check a data set on disk.",
    "import": "Make a run of a published checkpoint.",
    "batch": "Predict depth, or track the camera, of many videos on this machine or a Ray cluster.",
    "export": "Write points, a mesh, a scene for neural rendering, a recording, or the networks.",
}
"""Help text of each group of commands."""


class UsageError(Exception):
    """An invalid command line; the message is one line."""


def load_command(name: str) -> type[Command]:
    """Import the class of a command, given its name."""
    module, _, kind = COMMANDS[name].partition(":")
    return getattr(import_module(f"egodepth.cli.{module}"), kind)


def parse(words: Sequence[str]) -> Command | None:
    """Parse the command line into a command; None if it asked for help or the version, which was printed.

    Raises:
        UsageError: an unknown command or option, a missing or wrong value, or a ~ that no shell replaced.
    """
    empty = next((word for word in words if re.fullmatch(r"--[\w.-]+=", word)), "")
    if empty:
        raise UsageError(f"{empty.removesuffix('=')} needs a value (see egodepth --help)")
    for before, word in itertools.pairwise(["egodepth", *words]):
        if not word:
            raise UsageError(f"there is an empty word after {before!r}: is a variable not set?")
        path = re.sub(r"^--[\w.-]+=", "", word)
        if path.startswith("~") and not os.path.lexists(path):
            raise UsageError(
                f"the shell left the ~ of {word!r} as it is; write $HOME, or ./~ for a name that begins with ~"
            )
    first = next(iter(words), "")
    if list(words) == [first] and first in FAMILIES:
        inner = [name.split()[1] for name in COMMANDS if name.startswith(f"{first} ")]
        raise UsageError(
            f"{first} needs one of {', '.join(inner)} after it (see egodepth {first} --help)"
        )
    names = [name for name in COMMANDS if name.split()[0] == first] or list(COMMANDS)
    if len(names) == len(COMMANDS) and not first.startswith("-"):
        known = list(dict.fromkeys(name.split()[0] for name in COMMANDS))
        raise UsageError(f"{_unknown_command(first, known)} (see egodepth --help)")
    app = make_app(names, with_settings=len(names) == 1)
    try:
        found = app(words, exit_on_error=False, print_error=False)
        return found if isinstance(found, Command) else None
    except (CycloptsError, ValidationError) as error:
        name = " ".join(words[:2]) if first in FAMILIES else first
        kind = load_command(name) if name in COMMANDS else Root
        program = f"egodepth {name}" if name in COMMANDS else "egodepth"
        raise UsageError(f"{_explain(error, app, kind)} (see {program} --help)") from error


def make_app(names: Sequence[str] = tuple(COMMANDS), *, with_settings: bool = True) -> App:
    """Make the cyclopts app of these commands; it returns the parsed command.

    Args:
        names: names of commands in :data:`COMMANDS`.
        with_settings: whether ``train`` has its settings as options; listing them takes time.
    """
    shared = Parameter(negative=(), negative_iterable=())
    app = App(
        name="egodepth", version=_version, version_flags=["--version"], help_format="plaintext",
        group_parameters=Group("Options"), result_action="return_value", default_parameter=shared,
    )  # fmt: skip
    app.default(_as_function(Root, with_settings=False))
    for place, name in enumerate(names):
        *family, last = name.split()
        parent = app
        if family:
            if family[0] not in app:
                app.command(App(name=family[0], help=FAMILIES[family[0]], sort_key=place))
            parent = app[family[0]]
        kind = load_command(name)
        # In the reference and in completion, two-word commands do not inherit the shared options.
        inner = App(
            name=last, default_command=_as_function(kind, with_settings=with_settings),
            usage=f"{' '.join(['Usage: egodepth', name, *_usage(kind)])}\n", sort_key=place,
            default_parameter=shared,
        )  # fmt: skip
        parent.command(inner)
    return app


def _version() -> str:
    from importlib.metadata import version

    return f"egodepth {version('egodepth')}"


def _usage(kind: type[Command]) -> list[str]:
    """Usage line: arguments and required options, optional ones in brackets, repeatable ones with dots."""
    arguments, options, others = [], [], []
    for name, field in _fields_in_order(kind):
        metavar = _metavar(field)
        if isinstance(metavar, Positional):
            text = metavar.text + ("..." if ... in get_args(field.annotation) else "")
            arguments.append(text if field.is_required() else f"[{text}]")
        elif field.is_required():
            options.append(f"{option_of(name, field)} {metavar.text}")
        else:
            others = ["[OPTIONS]"]
    return [*arguments, *options, *others]


def _as_function(kind: type[Command], *, with_settings: bool) -> Callable[..., Command]:
    """Make a function with a command's fields as parameters, which cyclopts calls with the parsed values."""
    fields = dict(_fields_in_order(kind))
    positional = [name for name, field in fields.items() if _metavar(field, Positional)]
    gathered = {
        name: found for name, field in fields.items() if (found := _metavar(field, OptionsOf))
    }
    settings = {
        setting.name.replace(".", "__"): (name, setting.name)
        for name, options in gathered.items()
        for setting in options.settings()
    }

    def command(*values: Any, **given: Any) -> Command:
        typed: dict[str, Any] = dict(zip(positional, values, strict=False))
        for name, value in given.items():
            if name in settings:
                group, setting = settings[name]
                typed.setdefault(group, {})[setting] = value
            else:
                typed[name] = value
        return kind(**typed)

    parameters = [_parameter(name, field) for name, field in fields.items() if name not in gathered]
    if with_settings:
        parameters += [p for options in gathered.values() for p in _setting_parameters(options)]
    parameters.sort(key=lambda p: (p.kind, p.default is not inspect.Parameter.empty))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__doc__ = inspect.cleandoc(kind.__doc__ or "")
    return command


def _fields_in_order(kind: type[Command]) -> Iterator[tuple[str, FieldInfo]]:
    """Fields of a command: positional ones, shared before its own; then options, its own before shared."""
    fields = {
        name: kind.model_fields[name]
        for owner in kind.__mro__
        for name in inspect.get_annotations(owner)
        if name in kind.model_fields
    }
    own = inspect.get_annotations(kind)
    positional = {name: field for name, field in fields.items() if _metavar(field, Positional)}
    yield from sorted(positional.items(), key=lambda item: item[0] in own)
    yield from ((name, field) for name, field in fields.items() if name not in positional)


def _metavar(field: FieldInfo, kind: type[Any] = Metavar) -> Any:
    return next((part for part in field.metadata if isinstance(part, kind)), None)


def option_of(name: str, field: FieldInfo) -> str:
    """Name of the command-line option for a field."""
    metavar = _metavar(field)
    return f"--{metavar.option if metavar and metavar.option else name}"


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    """Convert a field to a parameter for cyclopts."""
    metavar = _metavar(field)
    positional = isinstance(metavar, Positional)
    is_list = ... in get_args(field.annotation)
    default = inspect.Parameter.empty if field.is_required() else field.default
    shown = Parameter(
        name=metavar.text if positional else option_of(name, field),
        help=_in_one_line(field.description),
        metavar=metavar.text if metavar and not positional else None,
        show_default=False if default is None or isinstance(default, bool) else _show_value,
        converter=partial(_as_text, is_list) if int in types_within(field.annotation) else None,
        consume_multiple=(1, None) if is_list else None,
    )
    kind = inspect.Parameter.POSITIONAL_ONLY if positional else inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(
        name, kind, default=default, annotation=Annotated[field.annotation, shown]
    )


def _as_text(is_list: bool, _: Any, tokens: Sequence[Token]) -> Any:
    """Pass on the text as typed for pydantic to convert: cyclopts would round 1.5 to an integer."""
    values = tuple(token.value for token in tokens)
    return values[0] if len(values) == 1 and not is_list else values


def _setting_parameters(options: OptionsOf) -> Iterator[inspect.Parameter]:
    """Yield an option for each setting; :func:`egodepth.core.config.override` parses the values."""
    for setting in options.settings():
        group = setting.name.rpartition(".")[0] or "train"
        short = [f"--{name}" for name, full in options.shorthands.items() if full == setting.name]
        is_choice = get_origin(setting.annotation) is Literal
        shown = Parameter(
            name=(f"--{setting.name}", *short),
            help=_in_one_line(setting.help),
            metavar=None if is_choice else "VALUE",
            show_default=partial(_always, as_typed(setting.default)),
            group=Group(f"Settings: {group}"),
        )
        kind = setting.annotation if is_choice else str
        yield inspect.Parameter(
            setting.name.replace(".", "__"), inspect.Parameter.KEYWORD_ONLY, default=None,
            annotation=Annotated[kind | None, shown],
        )  # fmt: skip


def _always(text: str, _: Any) -> str:
    return text


def _in_one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _show_value(default: Any) -> str:
    """The default of a command's own option, as typed on the command line."""
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _explain(error: CycloptsError | ValidationError, app: App, kind: type[Command]) -> str:
    """Explain a parsing error in one line."""
    match error:
        case ValidationError():
            first = error.errors()[0]
            if not first["loc"]:
                return first["msg"].removeprefix("Value error, ")
            return _wrong_value(kind, str(first["loc"][0]), as_typed(first["input"]), first["type"])
        case InvalidError() if isinstance(error.__cause__, ValidationError) and error.argument:
            typed = " ".join(token.value for token in error.argument.tokens)
            reason = error.__cause__.errors()[0]["type"]
            return _wrong_value(kind, error.argument.field_info.name, typed, reason)
        case RepeatArgumentError():
            return (
                f"{_with_other_name(error.token.keyword or '', kind)} is given twice; leave one out"
            )
        case UnknownOptionError():
            return _unknown_option(error)
        case UnknownCommandError():
            known = [name for name in (error.app or app) if not name.startswith("-")]
            return _unknown_command((error.unused_tokens or [""])[0], known)
        case UnusedCliTokensError():
            return f"unexpected {' '.join(error.unused_tokens or [])!r}"
        case MissingArgumentError() if error.argument is not None:
            name = error.keyword or error.argument.name
            if error.keyword or error.argument.tokens:
                count = error.argument.token_count()[0]
                return f"{name} needs {'a value' if count == 1 else f'{count} values'}"
            what = re.split("[:;,]", error.argument.parameter.help or "")[0]
            return f"{name} is missing: {what}"
        case CoercionError() if error.token is not None and error.argument and error.msg is None:
            value, name = error.token.value, error.argument.field_info.name
            if name in kind.model_fields and not _are_several(kind.model_fields[name].annotation):
                return _wrong_value(kind, name, value)
            # Either a setting, or one of several values.
            name = error.token.keyword or error.argument.name
            types = get_args(error.target_type) if _are_several(error.target_type) else ()
            return f"{name} must be {allowed((*types, error.target_type)[0])}, got {value!r}"
    return _in_one_line(str(error))


def _with_other_name(option: str, kind: type[Command]) -> str:
    """An option as typed, and its other name in parentheses if it has one."""
    for field in kind.model_fields.values():
        if (options := _metavar(field, OptionsOf)) is not None:
            for pair in options.shorthands.items():
                if option.removeprefix("--") in pair:
                    return f"{option} (--{' or --'.join(pair)})"
    return option


def _are_several(annotation: Any) -> bool:
    return get_origin(annotation) is tuple


def _wrong_value(kind: type[Command], name: str, typed: str, reason: str = "") -> str:
    """Error message for a wrong value: what the field must be, and what was typed."""
    field = kind.model_fields[name]
    metavar = _metavar(field, Positional)
    wanted = allowed(field.annotation, field.metadata).removesuffix(" or null")
    if reason == "finite_number":
        wanted = wanted.replace("a number", "a finite number")
    return f"{metavar.text if metavar else option_of(name, field)} must be {wanted}, got {typed!r}"


def _unknown_command(word: str, known: list[str]) -> str:
    return f"unknown command {word!r}; {did_you_mean(word, known)}"


def _unknown_option(error: UnknownOptionError) -> str:
    word = (error.token.keyword or error.token.value).partition("=")[0]
    bare = word.lstrip("-").replace("-", "_")
    if bare in RENAMED:
        return f"{word} is called --{RENAMED[bare]} now"
    known = (n.removeprefix("--") for a in error.argument_collection for n in a.names)
    meant = nearest_name(bare, known)
    return f"unknown option {word}" + (f"; did you mean --{meant}?" if meant else "")
