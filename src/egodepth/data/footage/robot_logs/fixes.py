"""Reads the positions of a satellite receiver from a recording."""

from pathlib import Path

import numpy as np

from egodepth.core.errors import EgodepthError
from egodepth.core.files import reading
from egodepth.data.footage.robot_logs.reader import FIXES, list_topics
from egodepth.data.footage.robot_logs.recording import open_recording, split_topics, stamp_of

NO_FIX = -1
"""Status of a NavSatFix without a position."""


def read_fixes(path: Path) -> np.ndarray:
    """Read the positions (N, 3) of a NavSatFix topic: header stamp in seconds, latitude and longitude in
    degrees, NaN without a fix.

    Args:
        path: of a recording, with ``#/TOPIC`` where it has several such topics.

    Raises:
        EgodepthError: a broken recording, or no such topic or several.
    """
    whole, named = split_topics(str(path))
    recording = open_recording(Path(whole))
    topics = [t for t, kind in recording.topics.items() if kind in FIXES]
    chosen = [t for t in topics if t in named] if named else topics
    if not chosen:
        raise EgodepthError(
            f"{path} has no topic of satellite positions; {list_topics(recording.topics)}"
        )
    if len(chosen) > 1:
        raise EgodepthError(
            f"{whole} has {len(chosen)} topics of satellite positions ({', '.join(chosen)}); name one, as "
            f"'{whole}#{chosen[0]}'"
        )
    rows = []
    with reading(f"{whole}#{chosen[0]}", "the positions"):
        for message in recording.messages(chosen):
            fix = message.decode()
            status = getattr(getattr(fix, "status", None), "status", 0)
            place = (np.nan, np.nan) if status == NO_FIX else (fix.latitude, fix.longitude)
            rows.append((stamp_of(fix) / 1e9, *place))
    return np.array(rows, np.float64).reshape(-1, 3)
