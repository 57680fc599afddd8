"""Stamps of videos: what tells that one was replaced since its results were written."""

import posixpath
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from egodepth.cluster.videos import Video
from egodepth.core.file_store import file_system, is_stored
from egodepth.data.sources import is_address

CAMERA = "camera.yaml"
"""The camera file that is read with a video beside it."""
VERSIONS = (
    "ETag", "etag", "md5Hash", "LastModified", "last_modified", "updated", "mtime", "modified", "created",
)  # fmt: skip
"""Facts about a file in a store that change with its content, by how surely they do."""
REQUESTS = 32
"""Requests to a store at a time."""


def stamped(videos: list[Video]) -> list[Video]:
    """Add to videos their stamps: size and time of change, or the store's version, of each and of the camera
    file beside it. Those of web servers, and what a store says nothing about, have none."""
    camera = lru_cache(maxsize=None)(_stamp)
    with ThreadPoolExecutor(REQUESTS) as threads:
        return list(threads.map(partial(_with_stamp, camera), videos))


def _with_stamp(camera: Callable[[str], str], video: Video) -> Video:
    address = video.address
    if is_address(address) and not is_stored(address):
        return video
    stamp = _stamp(address)
    if not stamp:
        return video
    beside = camera(f"{posixpath.dirname(address)}/{CAMERA}")
    return replace(video, stamp=f"{stamp}; {CAMERA} {beside}" if beside else stamp)


def _stamp(address: str) -> str:
    """Size and version of a file; empty where it is missing or nothing is known."""
    try:
        if not is_address(address):
            found = Path(address).stat()
            return f"{found.st_size} bytes, {found.st_mtime_ns}"
        files, path = file_system(address)
        info: dict[str, Any] = files.info(path)
    except Exception:  # of the packages of all stores; the worker says what is wrong with a video
        return ""
    version = next((str(info[name]) for name in VERSIONS if info.get(name)), "")
    return f"{info['size']} bytes, {version}" if info.get("size") is not None else version
