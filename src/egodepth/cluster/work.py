"""Finds what a batch has to do: videos without results, and those that changed since."""

from dataclasses import replace

from egodepth.cluster.stamps import stamped
from egodepth.cluster.store import Marker, ResultStore
from egodepth.cluster.videos import Sources, Video, list_videos
from egodepth.core.errors import EgodepthError


def find_work(sources: Sources, store: ResultStore) -> tuple[list[Video], list[Video]]:
    """The videos of a batch, and those of them that are left to do: without results, or changed since.

    Raises:
        EgodepthError: as :func:`list_videos`, or something is in the way of the results.
    """
    done = store.done()
    known = {marker.digest: name for name, marker in done.items()}
    videos = stamped(list_videos(sources, store.absolute, known))
    todo = [left for video in videos if (left := _left(video, done.get(video.name), store))]
    store.check_room(todo)
    return videos, todo


def _left(video: Video, marker: Marker | None, store: ResultStore) -> Video | None:
    """A video that is left to do, with what its results replace; None if it is done."""
    if marker is None:
        return video
    if marker.digest != video.digest:
        raise EgodepthError(
            f"{store.uri}/{video.name} has the results of another video of that name, not of "
            f"{video.address}; name another place with --out"
        )
    if marker.stamp and video.stamp and marker.stamp != video.stamp_digest:
        return replace(video, replaces=marker.stamp)
    return None
