"""Decodes image messages of ROS and Foxglove."""

import io
import sys
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import cv2
import numpy as np
from PIL import Image

from egodepth.core.errors import EgodepthWarning
from egodepth.data.pixels import MAX_MEGAPIXELS, read_values

RAW = ("sensor_msgs/Image", "foxglove/RawImage")
COMPRESSED = ("sensor_msgs/CompressedImage", "foxglove/CompressedImage", "foxglove/CompressedVideo")
"""Types of image messages."""
# OpenCV names a Bayer pattern by its second row, ROS by its first.
_BAYER = {
    "rggb": cv2.COLOR_BayerBG2RGB, "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB, "grbg": cv2.COLOR_BayerGB2RGB,
}  # fmt: skip
_ENCODINGS: dict[str, tuple[int, int, int | None]] = {
    "rgb8": (1, 3, None), "bgr8": (1, 3, cv2.COLOR_BGR2RGB), "8UC3": (1, 3, cv2.COLOR_BGR2RGB),
    "rgba8": (1, 4, cv2.COLOR_RGBA2RGB), "bgra8": (1, 4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, 1, cv2.COLOR_GRAY2RGB), "8UC1": (1, 1, cv2.COLOR_GRAY2RGB),
    "mono16": (2, 1, None), "16UC1": (2, 1, None),
    "rgb16": (2, 3, None), "bgr16": (2, 3, cv2.COLOR_BGR2RGB),
    "yuv422": (1, 2, cv2.COLOR_YUV2RGB_UYVY), "uyvy": (1, 2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (1, 2, cv2.COLOR_YUV2RGB_YUY2), "yuyv": (1, 2, cv2.COLOR_YUV2RGB_YUY2),
    "nv12": (1, 1, cv2.COLOR_YUV2RGB_NV12),
    **{f"bayer_{p}8": (1, 1, code) for p, code in _BAYER.items()},
    **{f"bayer_{p}16": (2, 1, code) for p, code in _BAYER.items()},
}  # fmt: skip
"""Bytes per value, values per pixel and OpenCV's conversion to RGB, by encoding."""
_CODECS = {"h264": "h264", "h265": "hevc", "hevc": "hevc", "vp9": "vp9", "av1": "av1"}
"""Names of video codecs in FFmpeg by the format of a message."""


def is_depth(message: Any) -> bool:
    """Whether an image message holds depth rather than a picture."""
    if hasattr(message, "encoding"):
        return message.encoding in ("16UC1", "32FC1", "64FC1")
    return "compresseddepth" in message.format.lower() or message.format.startswith("16UC1")


def video_codec(message: Any) -> str | None:
    """FFmpeg's name of the codec if an image message is a frame of a video stream."""
    return _CODECS.get(getattr(message, "format", "").lower().split(";")[0].strip())


def read_picture_message(message: Any) -> np.ndarray:
    """Pixels of an image message that stands alone: (H, W, 3) uint8 RGB. Images of more than 8 bits keep their
    type, as (H, W) or (H, W, 3).

    Raises:
        ValueError: an unknown encoding, or data that do not fit the size.
        Exception: a broken JPEG or PNG; read it within :func:`egodepth.core.files.reading`.
    """
    return _read_raw(message) if hasattr(message, "encoding") else _read_compressed(message)


def _read_raw(message: Any) -> np.ndarray:
    encoding = message.encoding
    if encoding not in _ENCODINGS:
        raise ValueError(
            f"its images are encoded as {encoding!r}; read are {', '.join(_ENCODINGS)}"
        )
    size, channels, conversion = _ENCODINGS[encoding]
    height, width, row = int(message.height), int(message.width), int(message.step)
    used = width * channels * size
    # In nv12, half as many rows of colour follow those of brightness.
    stored = height + height // 2 if encoding == "nv12" else height
    data = np.frombuffer(message.data, np.uint8)
    row = row or used
    if not height * width or row < used or len(data) < row * (stored - 1) + used:
        raise ValueError(
            f"an image of {width}x{height} pixels ({encoding}, {row} bytes per row) has {len(data)} bytes"
        )
    if len(data) < row * stored:  # the last row may lack its padding
        data = np.pad(data, (0, row * stored - len(data)))
    rows = np.ascontiguousarray(data[: row * stored].reshape(stored, row)[:, :used])
    if size == 2:
        rows = rows.view(np.uint16)
        if bool(getattr(message, "is_bigendian", False)) != (sys.byteorder == "big"):
            rows = rows.byteswap()
    values = rows.reshape(height, width, channels) if channels > 1 else rows
    return values.copy() if conversion is None else np.asarray(cv2.cvtColor(values, conversion))


def warn_of_encoding(message: Any, topic: str) -> None:
    """Warn if the encoding of an image does not say the order of its colours."""
    if getattr(message, "encoding", "") == "8UC3":
        warnings.warn(
            f"the images of {topic} are 8UC3, which does not say the order of the colours; they are taken for "
            "bgr8, as OpenCV has them",
            EgodepthWarning,
            stacklevel=4,
        )


def _read_compressed(message: Any) -> np.ndarray:
    kind, _, written = message.format.partition(";")
    with Image.open(io.BytesIO(bytes(message.data))) as image:
        if image.width * image.height > MAX_MEGAPIXELS * 10**6:
            raise ValueError(
                f"an image claims {image.width}x{image.height} pixels; at most {MAX_MEGAPIXELS} megapixels are "
                "read"
            )
        mosaic = kind.startswith("bayer_") and image.mode == "L" and "bgr8" not in written
        values = read_values(image)
    if mosaic:
        grey = np.ascontiguousarray(values[..., 0])
        return np.asarray(cv2.cvtColor(grey, _BAYER[kind.removeprefix("bayer_")[:4]]))
    return values


def decode_video(
    codec: str, packets: Iterable[tuple[int, Any]]
) -> Iterator[tuple[int, np.ndarray]]:
    """Decode the messages of a video stream.

    Args:
        codec: FFmpeg's name.
        packets: places of the messages in the recording, ascending, and the messages.

    Yields:
        The places and images (H, W, 3) uint8 RGB of those that can be decoded.
    """
    import av
    from av.error import FFmpegError

    context: Any = av.CodecContext.create(codec, "r")
    context.thread_type = "SLICE"  # threads of whole frames would delay them
    last, started = -1, False

    def frames(packet: Any) -> Iterator[tuple[int, np.ndarray]]:
        nonlocal last, started
        try:
            decoded = context.decode(packet)
        except FFmpegError:
            return
        for frame in decoded:
            started = started or frame.key_frame  # FFmpeg invents what the first frames refer to
            if started and not frame.is_corrupt and frame.pts is not None and frame.pts > last:
                last = frame.pts
                yield last, frame.to_ndarray(format="rgb24")

    for place, message in packets:
        packet = av.Packet(bytes(message.data))
        packet.pts = packet.dts = place
        yield from frames(packet)
    yield from frames(None)
