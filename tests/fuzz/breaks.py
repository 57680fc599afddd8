"""Ways to break a file: each takes a path and random numbers, and changes the file in place."""

import io
import json
import os
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

Break = Callable[[Path, np.random.Generator], None]

BYTES: dict[str, Break] = {}
"""Breaks of any file."""
TEXT: dict[str, Break] = {}
"""Breaks of text files."""
TREE: dict[str, Break] = {}
"""Breaks of YAML and JSON files."""
PNG: dict[str, Break] = {}
"""Breaks of PNG files."""
ARRAY: dict[str, Break] = {}
"""Breaks of .npy and .npz files."""
DESTROYING = {"empty", "zeroed", "noise", "folder"}
"""Breaks after which nothing is left of the content, so that accepting the file without a word is wrong. A link
to nothing is not among them: many files may be absent."""

ODD_NUMBERS = (
    "nan", "inf", "-inf", "1e308", "-1e308", "1e-308", "-1", "0", "-0.0", "1e20", "-7.5", "9" * 5000,
    "2147483648", "18446744073709551616", "0x10", "1_000", "1,5", "", "abc", "true", "null", "2020-13-45",
    "[1]", "{}", "1e999", "٣", "½", "--3", "3.4.5", "1e", "\x00",
)  # fmt: skip
ODD_VALUES: tuple[Any, ...] = (
    None, True, "abc", "", -1, 0, 10**30, 1e308, -1e308, 1e-308, float("nan"), float("inf"), [], {}, [[]],
    [1, [2]], {"a": {"b": 1}}, "nan", "1e400", [None] * 4, "\u0000", [1, "x"], 10**400,
)  # fmt: skip


def _add(table: dict[str, Break]) -> Callable[[Break], Break]:
    def add(function: Break) -> Break:
        table[function.__name__] = function
        return function

    return add


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


@_add(BYTES)
def empty(path: Path, rng: np.random.Generator) -> None:
    path.write_bytes(b"")


@_add(BYTES)
def cut(path: Path, rng: np.random.Generator) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(rng.integers(0, max(1, len(content))))])


@_add(BYTES)
def last_byte_gone(path: Path, rng: np.random.Generator) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@_add(BYTES)
def zeroed(path: Path, rng: np.random.Generator) -> None:
    path.write_bytes(bytes(len(path.read_bytes())))


@_add(BYTES)
def tail_zeroed(path: Path, rng: np.random.Generator) -> None:
    content = path.read_bytes()
    place = int(rng.integers(0, max(1, len(content))))
    path.write_bytes(content[:place] + bytes(len(content) - place))


@_add(BYTES)
def flipped(path: Path, rng: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    for place in rng.integers(0, max(1, len(content)), int(rng.integers(1, 12))):
        if content:
            content[place] ^= 1 << int(rng.integers(0, 8))
    path.write_bytes(bytes(content))


@_add(BYTES)
def flipped_early(path: Path, rng: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    for place in rng.integers(0, max(1, min(len(content), 200)), int(rng.integers(1, 5))):
        if content:
            content[place] = int(rng.integers(0, 256))
    path.write_bytes(bytes(content))


@_add(BYTES)
def noise(path: Path, rng: np.random.Generator) -> None:
    path.write_bytes(rng.bytes(int(rng.integers(1, 3000))))


@_add(BYTES)
def junk_before(path: Path, rng: np.random.Generator) -> None:
    path.write_bytes(rng.bytes(int(rng.integers(1, 20))) + path.read_bytes())


@_add(BYTES)
def junk_after(path: Path, rng: np.random.Generator) -> None:
    path.write_bytes(path.read_bytes() + rng.bytes(int(rng.integers(1, 50))))


@_add(BYTES)
def twice(path: Path, rng: np.random.Generator) -> None:
    path.write_bytes(path.read_bytes() * 2)


@_add(BYTES)
def folder(path: Path, rng: np.random.Generator) -> None:
    _remove(path)
    path.mkdir()


@_add(BYTES)
def dangling(path: Path, rng: np.random.Generator) -> None:
    _remove(path)
    path.symlink_to("nothing-is-here")


@_add(BYTES)
def circle(path: Path, rng: np.random.Generator) -> None:
    _remove(path)
    path.symlink_to(path.name)


@_add(BYTES)
def other_format(path: Path, rng: np.random.Generator) -> None:
    """A valid file of another kind."""
    buffer = io.BytesIO()
    choice = int(rng.integers(0, 4))
    if choice == 0:
        np.save(buffer, np.ones((4, 5)))
    elif choice == 1:
        np.savez(buffer, a=np.ones(3))
    elif choice == 2:
        buffer.write(b'{"a": [1, 2, 3]}')
    else:
        buffer.write(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj\n")
    path.write_bytes(buffer.getvalue())


def _numbers(text: str) -> list[re.Match[str]]:
    return list(re.finditer(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?", text))


@_add(TEXT)
def odd_number(path: Path, rng: np.random.Generator) -> None:
    text = path.read_text()
    found = _numbers(text)
    if found:
        match = found[int(rng.integers(len(found)))]
        odd = ODD_NUMBERS[int(rng.integers(len(ODD_NUMBERS)))]
        path.write_text(text[: match.start()] + odd + text[match.end() :])


@_add(TEXT)
def odd_number_everywhere(path: Path, rng: np.random.Generator) -> None:
    odd = ODD_NUMBERS[int(rng.integers(len(ODD_NUMBERS)))]
    path.write_text(re.sub(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?", lambda _: odd, path.read_text()))


@_add(TEXT)
def number_gone(path: Path, rng: np.random.Generator) -> None:
    text = path.read_text()
    found = _numbers(text)
    if found:
        match = found[int(rng.integers(len(found)))]
        path.write_text(text[: match.start()] + text[match.end() :])


@_add(TEXT)
def number_more(path: Path, rng: np.random.Generator) -> None:
    text = path.read_text()
    found = _numbers(text)
    if found:
        match = found[int(rng.integers(len(found)))]
        path.write_text(text[: match.end()] + " 5" + text[match.end() :])


@_add(TEXT)
def line_gone(path: Path, rng: np.random.Generator) -> None:
    lines = path.read_text().splitlines(keepends=True)
    if lines:
        lines.pop(int(rng.integers(len(lines))))
    path.write_text("".join(lines))


@_add(TEXT)
def line_twice(path: Path, rng: np.random.Generator) -> None:
    lines = path.read_text().splitlines(keepends=True)
    if lines:
        lines.insert(0, lines[int(rng.integers(len(lines)))])
    path.write_text("".join(lines))


@_add(TEXT)
def line_cut(path: Path, rng: np.random.Generator) -> None:
    lines = path.read_text().splitlines(keepends=True)
    if lines:
        place = int(rng.integers(len(lines)))
        lines[place] = lines[place][: int(rng.integers(0, len(lines[place])))] + "\n"
    path.write_text("".join(lines))


@_add(TEXT)
def words_swapped(path: Path, rng: np.random.Generator) -> None:
    parts = re.split(r"(\s+)", path.read_text())
    a, b = rng.integers(0, len(parts), 2)
    parts[a], parts[b] = parts[b], parts[a]
    path.write_text("".join(parts))


@_add(TEXT)
def latin(path: Path, rng: np.random.Generator) -> None:
    text = path.read_text()
    place = int(rng.integers(0, len(text) + 1))
    path.write_bytes((text[:place] + "é" + text[place:]).encode("latin-1"))


@_add(TEXT)
def utf16_without_mark(path: Path, rng: np.random.Generator) -> None:
    path.write_bytes(path.read_text().encode("utf-16-le"))


@_add(TEXT)
def utf16_cut(path: Path, rng: np.random.Generator) -> None:
    path.write_bytes(path.read_text().encode("utf-16")[:-1])


@_add(TEXT)
def null_within(path: Path, rng: np.random.Generator) -> None:
    text = path.read_text()
    place = int(rng.integers(0, len(text) + 1))
    path.write_text(text[:place] + "\x00" + text[place:])


@_add(TEXT)
def quote_within(path: Path, rng: np.random.Generator) -> None:
    text = path.read_text()
    place = int(rng.integers(0, len(text) + 1))
    path.write_text(
        text[:place] + str(rng.choice(['"', "'", "<", "[", "{", "&", "*", ":", ","])) + text[place:]
    )


@_add(TEXT)
def nested(path: Path, rng: np.random.Generator) -> None:
    mark = str(rng.choice(["[", '{"a":', "- ", "<a>", "("]))
    path.write_text(mark * int(rng.choice([50, 3000, 60000])))


@_add(TEXT)
def long_line(path: Path, rng: np.random.Generator) -> None:
    path.write_text(path.read_text() + "\n" + "1 " * 300_000)


@_add(TEXT)
def spaces_alone(path: Path, rng: np.random.Generator) -> None:
    path.write_text(" \n\t\n  \n")


@_add(TEXT)
def comment_alone(path: Path, rng: np.random.Generator) -> None:
    path.write_text("# nothing\n#\n")


def _places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    for key, value in items:
        found += _places(value, (*path, key))
    return found


def _edit(path: Path, rng: np.random.Generator, change: Callable[[Any, Any], None]) -> None:
    """Change one value of a YAML or JSON file; text that is neither gets a line of YAML."""
    text = path.read_text()
    is_json = text.lstrip().startswith("{")
    try:
        tree = json.loads(text) if is_json else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError):
        tree = None
    places = _places(tree) if isinstance(tree, dict) else []
    if not places:
        path.write_text(text + "\na: [1, 2\n")
        return
    *way, last = places[int(rng.integers(len(places)))]
    node = tree
    for key in way:
        node = node[key]
    change(node, last)
    path.write_text(json.dumps(tree) if is_json else yaml.safe_dump(tree, sort_keys=False))


@_add(TREE)
def odd_value(path: Path, rng: np.random.Generator) -> None:
    odd = ODD_VALUES[int(rng.integers(len(ODD_VALUES)))]
    _edit(path, rng, lambda node, key: node.__setitem__(key, odd))


@_add(TREE)
def value_gone(path: Path, rng: np.random.Generator) -> None:
    _edit(path, rng, lambda node, key: node.__delitem__(key))


@_add(TREE)
def value_in_list(path: Path, rng: np.random.Generator) -> None:
    _edit(path, rng, lambda node, key: node.__setitem__(key, [node[key]]))


@_add(TREE)
def list_longer(path: Path, rng: np.random.Generator) -> None:
    def change(node: Any, key: Any) -> None:
        node[key] = node[key] * 2 if isinstance(node[key], list) else [node[key], 1.5]

    _edit(path, rng, change)


@_add(TREE)
def name_changed(path: Path, rng: np.random.Generator) -> None:
    def change(node: Any, key: Any) -> None:
        if isinstance(node, dict):
            names = ["x", "depth", "K", "intrinsics", "frames", "fl_x", ""]
            node[names[int(rng.integers(len(names)))]] = node.pop(key)

    _edit(path, rng, change)


@_add(TREE)
def other_root(path: Path, rng: np.random.Generator) -> None:
    path.write_text(
        str(rng.choice(["5", "[1, 2]", '"text"', "null", "true", "2020-02-30", "[]", "{}", "~"]))
    )


@_add(TREE)
def alias_bomb(path: Path, rng: np.random.Generator) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    path.write_text("\n".join(lines))


@_add(TREE)
def alias_circle(path: Path, rng: np.random.Generator) -> None:
    key = str(rng.choice(["fx", "data", "intrinsics", "a"]))
    path.write_text(f"{key}: &a\n  b: *a\n  c: [*a]\n")


@_add(TREE)
def python_object(path: Path, rng: np.random.Generator) -> None:
    path.write_text("fx: !!python/object/apply:os.system ['true']\n")


@_add(TREE)
def odd_keys(path: Path, rng: np.random.Generator) -> None:
    path.write_text("1: 2\n? [a, b]\n: 3\n2020-01-01: 4\nnull: 5\ntrue: 6\n")


@_add(TREE)
def date_for_number(path: Path, rng: np.random.Generator) -> None:
    text = path.read_text()
    date = str(rng.choice(["2020-01-01", "2020-13-45", "2020-01-01T99:00:00", "1:60:00"]))
    path.write_text(re.sub(r"(?<=[ :])[-+]?\d+(\.\d+)?$", date, text, count=1, flags=re.M))


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    chunks, place = [], 8
    while place + 8 <= len(content):
        (size,) = struct.unpack(">I", content[place : place + 4])
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + size]))
        place += 12 + size
    return chunks


def _png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    parts = [b"\x89PNG\r\n\x1a\n"]
    for name, data in chunks:
        parts.append(
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )
    return b"".join(parts)


@_add(PNG)
def huge_png(path: Path, rng: np.random.Generator) -> None:
    """A header that claims up to 900 megapixels and more."""
    chunks = _chunks(path.read_bytes())
    if chunks and chunks[0][0] == b"IHDR":
        side = int(rng.choice([11_000, 30_000, 100_000, 2**31 - 1]))
        chunks[0] = (b"IHDR", struct.pack(">II", side, side) + chunks[0][1][8:])
        path.write_bytes(_png(chunks))


@_add(PNG)
def empty_png(path: Path, rng: np.random.Generator) -> None:
    chunks = _chunks(path.read_bytes())
    if chunks and chunks[0][0] == b"IHDR":
        size = (0, 5) if rng.integers(2) else (5, 0)
        chunks[0] = (b"IHDR", struct.pack(">II", *size) + chunks[0][1][8:])
        path.write_bytes(_png(chunks))


@_add(PNG)
def odd_png_kind(path: Path, rng: np.random.Generator) -> None:
    """Another bit depth, colour type or filter than the pixels have."""
    chunks = _chunks(path.read_bytes())
    if chunks and chunks[0][0] == b"IHDR":
        head = bytearray(chunks[0][1])
        head[8 + int(rng.integers(0, 5))] = int(rng.integers(0, 17))
        chunks[0] = (b"IHDR", bytes(head))
        path.write_bytes(_png(chunks))


@_add(PNG)
def png_text_bomb(path: Path, rng: np.random.Generator) -> None:
    chunks = _chunks(path.read_bytes())
    bomb = b"Comment\x00\x00" + zlib.compress(bytes(100_000_000))
    path.write_bytes(_png([*chunks[:1], (b"zTXt", bomb), *chunks[1:]]))


@_add(PNG)
def broken_exif(path: Path, rng: np.random.Generator) -> None:
    chunks = _chunks(path.read_bytes())
    exif = b"II*\x00\x08\x00\x00\x00" + rng.bytes(60) if rng.integers(2) else rng.bytes(40)
    path.write_bytes(_png([*chunks[:1], (b"eXIf", exif), *chunks[1:]]))


def _save(path: Path, values: np.ndarray, *, pickled: bool = False) -> None:
    if path.suffix == ".npz":
        np.savez(path, depth=values)
    else:
        np.save(path, values, allow_pickle=pickled)


ODD_ARRAYS: dict[str, Callable[[], np.ndarray]] = {
    "strings": lambda: np.full((40, 80), "7.5"),
    "complex": lambda: np.full((40, 80), 3 + 4j),
    "truths": lambda: np.ones((40, 80), bool),
    "dates": lambda: np.zeros((40, 80), "datetime64[s]"),
    "records": lambda: np.zeros((40, 80), [("a", "f4"), ("b", "i4")]),
    "nothing": lambda: np.zeros((0, 80), np.float32),
    "scalar": lambda: np.float32(3.0),
    "line": lambda: np.ones(80, np.float32),
    "five": lambda: np.ones((1, 2, 40, 80, 1), np.float32),
    "all_nan": lambda: np.full((40, 80), np.nan, np.float32),
    "all_inf": lambda: np.full((40, 80), np.inf, np.float32),
    "all_zero": lambda: np.zeros((40, 80), np.float32),
    "negative": lambda: np.full((40, 80), -3.0, np.float32),
    "huge": lambda: np.full((40, 80), 1e308),
    "void": lambda: np.zeros((40, 80), "V8"),
    "bytes": lambda: np.full((40, 80), b"7"),
}


def _odd_array(name: str) -> Break:
    def write(path: Path, rng: np.random.Generator) -> None:
        _save(path, ODD_ARRAYS[name]())

    return write


ARRAY |= {f"array_of_{name}": _odd_array(name) for name in ODD_ARRAYS}


@_add(ARRAY)
def array_of_objects(path: Path, rng: np.random.Generator) -> None:
    np.save(path.with_suffix(".npy"), np.array([{"a": 1}, None], object), allow_pickle=True)
    if path.suffix == ".npz":
        path.with_suffix(".npy").rename(path)


def _header(shape: str) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


@_add(ARRAY)
def huge_array(path: Path, rng: np.random.Generator) -> None:
    """A header that claims terabytes, or a negative or absurd shape."""
    shape = str(
        rng.choice(
            ["(2000000, 2000000)", "(30000, 30000)", "(-1, 80)", "(9" + "0" * 30 + ", 2)", "'x'"]
        )
    )
    content = _header(shape) + bytes(40 * 80 * 4)
    if path.suffix == ".npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("depth.npy", content)
    else:
        path.write_bytes(content)


@_add(ARRAY)
def array_bomb(path: Path, rng: np.random.Generator) -> None:
    """An archive of some megabytes that unpacks to gigabytes."""
    target = path.with_suffix(".npz")
    with (
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("depth.npy", "w", force_zip64=True) as file,
    ):
        file.write(_header("(20000, 30000)"))
        for _ in range(24):
            file.write(bytes(100_000_000))
    if path != target:
        os.replace(target, path)


@_add(ARRAY)
def encrypted(path: Path, rng: np.random.Generator) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, depth=np.ones((40, 80), np.float32))
    content = bytearray(buffer.getvalue())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + place] |= 1
    path.write_bytes(bytes(content))


@_add(ARRAY)
def unknown_compression(path: Path, rng: np.random.Generator) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, depth=np.ones((40, 80), np.float32))
    content = bytearray(buffer.getvalue())
    for mark, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        content[content.index(mark) + place] = 77
    path.write_bytes(bytes(content))


@_add(ARRAY)
def broken_deflate(path: Path, rng: np.random.Generator) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, depth=rng.random((40, 80)).astype(np.float32))
    content = bytearray(buffer.getvalue())
    for place in rng.integers(60, len(content) // 2, 8):
        content[place] ^= 255
    path.write_bytes(bytes(content))


@_add(ARRAY)
def other_names(path: Path, rng: np.random.Generator) -> None:
    with path.open("wb") as file:
        np.savez(file, **{"a/b": np.ones(3), "": np.ones(2)})


def breaks_for(path: Path) -> dict[str, Break]:
    """The breaks that suit a file, by its content."""
    head = b"" if path.is_dir() else path.read_bytes()[:4096]
    table = dict(BYTES)
    if head.startswith(b"\x89PNG"):
        return table | PNG
    if path.suffix in (".npy", ".npz"):
        return table | ARRAY
    try:
        head.decode("ascii")
    except UnicodeDecodeError:
        return table
    table |= TEXT
    if path.suffix in (".yaml", ".yml", ".json") or head.lstrip().startswith(b"{"):
        table |= TREE
    return table
