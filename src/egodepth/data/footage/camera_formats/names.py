"""Parses camera files in YAML, JSON and OpenCV's FileStorage format."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import yaml

from egodepth.core.files import parse_yaml
from egodepth.data.footage.camera_formats.values import file_error

KNOWN_FORMATS = (
    "egodepth's (fx, fy, cx, cy, width, height), OpenCV's, ROS's camera_info, kalibr's camchain, COLMAP's "
    "cameras.txt, nerfstudio's transforms.json"
)


def read_names(path: Path, text: str) -> dict[str, Any]:
    """Parse a camera file, other than COLMAP's, into keys and values; call it within
    :func:`egodepth.core.files.reading`."""
    is_storage = text.lstrip().startswith(("%YAML", "<?xml")) or "!!opencv-matrix" in text
    return _read_file_storage(path, text) if is_storage else _read_tree(path, text)


class _NameTwiceError(Exception):
    """A mapping has a duplicate key, given as the message."""


class _Loader(yaml.SafeLoader):
    """YAML loader that rejects duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        _check_once(name.value for name, _ in node.value if isinstance(name, yaml.ScalarNode))
        return super().construct_mapping(node, deep)


def _check_once(names: Iterable[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise _NameTwiceError(twice[0])


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _check_once(name for name, _ in pairs)
    return dict(pairs)


def _parse(text: str) -> Any:
    """Parse JSON, which allows tabs, or else the first YAML document (``rostopic echo`` prints several)."""
    try:
        return json.loads(text, object_pairs_hook=_pairs)
    except ValueError:
        return parse_yaml(text, _Loader)


def _read_tree(path: Path, text: str) -> dict[str, Any]:
    """Parse YAML or JSON into keys and values."""
    try:
        tree = _parse(text)
    except _NameTwiceError as error:
        raise file_error(path, f"has the name {str(error)!r} twice; leave one in it") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
        raise file_error(
            path, f"is in none of the known formats: {KNOWN_FORMATS}; line {line} is no YAML"
        ) from error
    if not isinstance(tree, dict):
        raise file_error(path, f"is in none of the known formats: {KNOWN_FORMATS}")
    return {str(name): value for name, value in tree.items()}


def _read_file_storage(path: Path, text: str) -> dict[str, Any]:
    """Parse a file of OpenCV's FileStorage into keys and values, with matrices as arrays."""
    text = text if text.lstrip().startswith(("%YAML", "<?xml")) else f"%YAML:1.0\n---\n{text}"
    try:
        _check_once(re.findall(r"^(\w+)\s*:", text, re.M))
        storage = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
        tree = _node(storage.root())
        storage.release()
    except _NameTwiceError as error:
        raise file_error(path, f"has the name {str(error)!r} twice; leave one in it") from error
    except (cv2.error, SystemError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise file_error(path, f"can't be read by OpenCV's FileStorage: {reason}") from error
    return tree if isinstance(tree, dict) else {}


def _node(node: Any) -> Any:
    if node.isMap():
        values = {name: _node(node.getNode(name)) for name in node.keys()}  # noqa: SIM118  no mapping
        return node.mat() if {"rows", "cols", "dt"} <= set(values) else values
    if node.isSeq():
        return [_node(node.at(i)) for i in range(node.size())]
    return node.string() if node.isString() else node.real()
