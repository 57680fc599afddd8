"""A trained run as an object: depth of an image, motion between two images."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from huggingface_hub import ModelCard, ModelHubMixin
from torch import Tensor, nn

from egodepth.core.errors import EgodepthError, require
from egodepth.core.files import write_error
from egodepth.core.suggestions import did_you_mean
from egodepth.data.footage.frame_cache import resize_frame
from egodepth.data.sequence import Sequence
from egodepth.geometry.lens import Undistortion
from egodepth.models.confidence import ConfidenceHead
from egodepth.models.folded import folded
from egodepth.models.networks import DepthNet, PoseNet
from egodepth.models.transformers_depth import TransformersDepth
from egodepth.runs.backends import (
    BACKENDS,
    CALIBRATION_FRAMES,
    Backend,
    Compute,
    export_run_onnx,
    make_compute,
)
from egodepth.runs.cameras import undistortion_of_run
from egodepth.runs.checkpoint import read_run, write_weights
from egodepth.runs.confidence import no_confidence, read_confidence, write_confidence
from egodepth.runs.destination import claim_folder
from egodepth.runs.devices import torch_device
from egodepth.runs.folder import RunFolder, RunLike, download
from egodepth.runs.footage import Source, open_footage
from egodepth.runs.hub import CARD_TEMPLATE, card_values, save_facts
from egodepth.runs.images import (
    ImageLike,
    blend_mirrored,
    load_image,
    load_pair,
    load_sized,
    small_images,
    texture_at,
)
from egodepth.runs.motion_gap import MotionGap
from egodepth.runs.not_finite import NotFiniteError
from egodepth.runs.unit import Unit
from egodepth.settings.model import ModelSettings, closest_size


class Run(
    ModelHubMixin,
    library_name="egodepth",
    pipeline_tag="depth-estimation",
    license="apache-2.0",
    tags=["egomotion", "self-supervised"],
    model_card_template=CARD_TEMPLATE,
):
    """Networks of a run folder, ready to predict. ``save_pretrained``, ``from_pretrained`` and
    ``push_to_hub`` are those of huggingface_hub; they, too, write and read run folders.

    Attributes:
        folder: the run folder.
        settings: settings of the networks.
        device: device of the networks.
        refined: what the run was refined on, in words, or empty; scores on these frames are not
            comparable with those of other runs.
        unit: unit of its lengths.
        motion_gap: gap between the frames of PoseNet's training pairs; pass it images this far apart.
        sound_motion: whether depth was learned with motion from more than PoseNet.
    """

    def __init__(
        self,
        folder: RunLike,
        settings: ModelSettings,
        depth: DepthNet | TransformersDepth,
        pose: PoseNet | None,
        confidence: ConfidenceHead | None = None,
    ):
        self.folder, self.settings = RunFolder.at(folder), settings
        self.device, self._any_device = torch.device("cpu"), True
        self._depth, self._pose, self._confidence = depth, pose, confidence
        self._folded: DepthNet | None = None
        size = (settings.height, settings.width)
        self._compute = make_compute("torch", depth, *size)
        self._compute_both = make_compute("torch", depth, *size, confidence=confidence)
        facts = self.folder.facts()
        self.refined, self.unit = facts.refined, Unit.of_facts(facts)
        self.motion_gap = self.folder.motion_gap() if pose is not None else MotionGap()
        self.sound_motion = facts.poses != "network"
        self._sizes = facts.sizes

    @classmethod
    def load(cls, folder: RunLike, device: str = "auto") -> Self:
        """Load a run folder made by ``egodepth train``, or ``hf:OWNER/NAME`` from the Hugging Face hub.

        Raises:
            EgodepthError: no run, a broken run, or a run without DepthNet.
        """
        folder = RunFolder.to_use(folder)
        settings, networks = read_run(folder)
        if networks.depth is None:
            raise EgodepthError(f"{folder} was trained with method features: it predicts no depth")
        confidence = read_confidence(folder, networks.depth)
        run = cls(folder, settings, networks.depth, networks.pose, confidence)
        return run.to(device)

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Write the run for others, see huggingface_hub; raises EgodepthError if it cannot be written."""
        require(save_directory, (str, Path), "save_directory", "a folder")
        try:
            return super().save_pretrained(save_directory, **options)
        except OSError as error:  # of the model card
            raise write_error(Path(save_directory) / "README.md", error) from error

    def _save_pretrained(self, save_directory: Path) -> None:
        parts = nn.ModuleDict({"depth": self._depth} | ({"pose": self._pose} if self._pose else {}))
        target = RunFolder.to_make(save_directory)
        if target.checkpoint.exists():
            raise EgodepthError(
                f"{target} is a run, whose settings would be lost: name another folder"
            )
        with claim_folder(target.path, for_run=True):
            write_weights(parts, target.weights)
            if self._confidence is not None:
                write_confidence(target, self._confidence)
            save_facts(self.folder, target)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, device: str = "auto", **options: Any) -> Self:
        local = Path(model_id)
        return cls.load(local if local.is_dir() else download(model_id, **options), device)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """Make the model card that the hub shows, with the run's facts filled in."""
        return super().generate_model_card(*args, **card_values(self.folder), **kwargs)

    def to(self, device: str) -> Self:
        """Move the networks to ``cpu``, ``cuda`` or ``cuda:N``; ``auto`` chooses a GPU if there is one.

        Raises:
            EgodepthError: there is no such device.
        """
        require(device, str, "device", "auto, cpu, cuda or cuda:N")
        self.device, self._any_device = torch_device(device), device == "auto"
        for network in filter(None, (self._depth, self._pose, self._confidence)):
            network.to(self.device).to(memory_format=torch.channels_last)
        self._folded = None
        return self

    def use_backend(self, backend: Backend, images: Iterable[np.ndarray] | Sequence = ()) -> Self:
        """Switch to another backend for depth.

        Args:
            backend: one of :data:`egodepth.runs.backends.BACKENDS`.
            images: the footage, or images (H, W, 3) uint8 from it, to calibrate ``openvino-int8`` on.

        Raises:
            EgodepthError: an unknown backend, a runtime that is not installed, or a CPU backend on another
                device.
        """
        require(backend, str, "backend", f"one of {', '.join(BACKENDS)}")
        if backend not in BACKENDS:
            raise EgodepthError(f"unknown backend {backend!r}; {did_you_mean(backend, BACKENDS)}")
        if isinstance(images, Sequence):
            few = range(0, len(images.frames), max(1, len(images.frames) // CALIBRATION_FRAMES))
            images = (frame.image for frame in images.frames.at(few))
        if not backend.startswith("torch"):
            self._sizes = ()  # these backends are compiled for one size
        if not backend.startswith("torch") and self.device.type != "cpu":
            if not self._any_device:
                raise EgodepthError(f"backend {backend} is for the CPU, not {self.device}")
            self.to("cpu")
        size = (self.settings.height, self.settings.width)
        frames = (self.prepare(image) for image in images)
        both = make_compute(backend, self._depth, *size, frames, self._confidence)
        plain = backend.startswith("torch") and self._confidence is not None
        self._compute = make_compute(backend, self._depth, *size) if plain else both
        self._compute_both = both
        return self

    def export_onnx(self, path: str | Path, **options: Any) -> int | None:
        """Write DepthNet as ONNX for any number of images; ``opset`` and ``batch`` as in
        :func:`egodepth.runs.backends.export_run_onnx`."""
        return export_run_onnx(self._depth, self.settings, self.unit, path, **options)

    def open(
        self,
        source: Source,
        *,
        name: str | None = None,
        fov: float | None = None,
        camera: str | Path | None = None,
        root: Path | None = None,
    ) -> list[Sequence]:
        """Open footage, undistorted, and with the run's camera if it has none of its own; see
        :func:`egodepth.runs.footage.open_footage`. A run trained at several image sizes switches to the one
        whose aspect ratio is closest to the footage's."""
        file = None if camera is None else Path(camera)
        found = open_footage(self.folder, source, name=name, fov=fov, camera=file, root=root)
        if found:
            self.fit_size(found[0].frames.height, found[0].frames.width)
        return found

    def fit_size(self, height: int, width: int) -> None:
        """Switch to the training size whose aspect ratio is closest to an image's."""
        if not self._sizes:
            return
        best = closest_size(self._sizes, width / height)
        self.settings = self.settings.changed(height=best[0], width=best[1])

    def undistortion(self, height: int, width: int, name: str) -> Undistortion | None:
        """Undistortion for images from outside any footage, such as those of a live camera;
        see :func:`egodepth.runs.cameras.undistortion_of_run`."""
        return undistortion_of_run(self.folder, height, width, name)

    @property
    def has_motion(self) -> bool:
        """Whether there is a PoseNet; runs with known motions have none."""
        return self._pose is not None

    @property
    def depth_net(self) -> DepthNet | TransformersDepth:
        """The depth network."""
        return self._depth

    @property
    def has_confidence(self) -> bool:
        """Whether there is a confidence head; runs of before have none, see ``egodepth confidence``."""
        return self._confidence is not None

    def deviation(self, image: ImageLike, size: tuple[int, int] | None = None) -> np.ndarray:
        """Standard deviation of the log depth that :meth:`depth` predicts, (H, W) float32: 0.1 means that depth
        is within 10 % for two thirds of such pixels, and within 20 % for nearly all.

        Args:
            image, size: as in :meth:`depth`.

        Raises:
            EgodepthError: a broken image, or a run without confidence.
        """
        prepared, size = self._prepared(image, size)
        return self.both_of_frames(prepared, *size)[1][0]

    def maps(
        self, image: ImageLike, size: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Depth and deviation at once, as from :meth:`depth` and :meth:`deviation`; no deviation (None) from a
        run without confidence."""
        prepared, size = self._prepared(image, size)
        depth, deviation = self.maps_of_frames(prepared, *size)
        return depth[0], None if deviation is None else deviation[0]

    def depth(
        self, image: ImageLike, size: tuple[int, int] | None = None, *, flip: bool = False
    ) -> np.ndarray:
        """Predict the depth of an image, (H, W) float32, in the run's unit.

        The unit of a monocular run is arbitrary but the same for all images. The image is used as it is: if the
        run's camera has lens distortion, use frames from :meth:`open`, which are undistorted.

        An image of more than 8 bits is scaled from its own range, with a warning; a folder
        (:func:`egodepth.predict_sequence`) is scaled from the range of all its frames, so its depth differs.

        Args:
            image: path, Pillow image or array.
            size: height and width of the result; by default those of the image.
            flip: average with the prediction for the mirrored image; see :func:`blend_mirrored`.

        Raises:
            EgodepthError: a broken image, or as :meth:`depth_of_frames`.
        """
        prepared, size = self._prepared(image, size)
        depth = self.depth_of_frames(prepared, *size)[0]
        if not flip:
            return depth
        mirrored = self.depth_of_frames(prepared.flip(-1), *size)[0, :, ::-1]
        return 1 / blend_mirrored(1 / depth, 1 / mirrored)

    def _prepared(
        self, image: ImageLike, size: tuple[int, int] | None
    ) -> tuple[Tensor, tuple[int, int]]:
        """An image as a batch for the networks, and the size of its depth."""
        array, size = load_sized(image, size, self.folder)
        self.fit_size(*array.shape[:2])
        return self.prepare(array)[None], size

    def motion(self, first: ImageLike, second: ImageLike) -> np.ndarray:
        """Predict ``second_from_first``, (4, 4) float64, which maps points from the first camera's frame to
        the second's; the translation is in the unit of :meth:`depth`. PoseNet's motion does not shrink with the
        time between the images: use images ``motion_gap`` apart, the earlier one first. Two files of more
        than 8 bits are scaled from their common range."""
        images = load_pair(first, second, self.folder)
        self.fit_size(*images[0].shape[:2])
        a, b = (self.prepare(image)[None] for image in images)
        return self.motions_of_frames(a, b)[0]

    def texture(self, image: ImageLike, size: tuple[int, int] | None = None) -> np.ndarray:
        """Texture of an image, computed at the size of the networks' input and resized to (H, W), by default
        the image's own size; see :func:`egodepth.evaluation.landscape.texture`."""
        return texture_at(load_image(image), self.settings.height, self.settings.width, size)

    def prepare(self, image: np.ndarray) -> Tensor:
        """Convert an image (H, W, 3) uint8 to (3, h, w) in [0, 1] at the size of the networks' input."""
        resized = resize_frame(image, self.settings.height, self.settings.width)
        return torch.from_numpy(resized.copy()).permute(2, 0, 1).to(self.device).float() / 255

    @torch.inference_mode()
    def depth_of_frames(self, frames: Tensor, height: int, width: int) -> np.ndarray:
        """Depth (B, height, width) float32 of prepared frames (B, 3, h, w).

        Raises:
            NotFiniteError: depth that is not above 0 and finite.
        """
        return self._resized(self._compute, frames, height, width)[0]

    @torch.inference_mode()
    def both_of_frames(
        self, frames: Tensor, height: int, width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Depth, and the standard deviation of its log, (B, height, width) float32 each, of prepared frames.

        Raises:
            EgodepthError: a run without confidence.
            NotFiniteError: depth that is not above 0 and finite.
        """
        if self._confidence is None:
            raise no_confidence(self.folder)
        depth, both = self._resized(self._compute_both, frames, height, width)
        deviation = both[:, 1].cpu().numpy()
        self._require("a deviation", np.isfinite(deviation))
        return depth, deviation

    def maps_of_frames(
        self, frames: Tensor, height: int, width: int
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Depth as from :meth:`depth_of_frames`, and its deviation as from :meth:`both_of_frames`; None for a
        run without confidence."""
        if self.has_confidence:
            return self.both_of_frames(frames, height, width)
        return self.depth_of_frames(frames, height, width), None

    def _resized(
        self, compute: Compute, frames: Tensor, height: int, width: int
    ) -> tuple[np.ndarray, Tensor]:
        """Depth, and all channels that were computed, (B, C, height, width)."""
        found = compute(frames.contiguous(memory_format=torch.channels_last))
        resized = F.interpolate(found, (height, width), mode="bilinear", align_corners=False)
        depth: np.ndarray = (1 / resized[:, 0]).cpu().numpy()
        self._require("depth", (depth > 0) & (depth < np.inf))
        return depth, resized

    @torch.inference_mode()
    def motions_of_frames(self, first: Tensor, second: Tensor) -> np.ndarray:
        """``second_from_first`` (B, 4, 4) float64 of pairs of prepared frames, the earlier one first.

        Raises:
            EgodepthError: a run without PoseNet.
            NotFiniteError: a motion that is not finite.
        """
        if self._pose is None:
            raise EgodepthError(
                f"{self.folder} has no PoseNet: all motions were known when it was trained"
            )
        motions = self._pose.second_from_first(first, second).cpu().numpy().astype(np.float64)
        self._require("a motion", np.isfinite(motions))
        return motions

    @torch.inference_mode()
    def depth_and_summary(
        self, frames: Tensor, height: int, width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Depth as from :meth:`depth_of_frames`, and vectors (B, D) that are similar where places are: see
        :meth:`DepthNet.with_summary`; small images for other models.

        Raises:
            NotFiniteError: depth that is not above 0 and finite.
        """
        if not isinstance(self._depth, DepthNet):
            depth, _ = self._resized(self._compute, frames, height, width)
            return depth, small_images(frames).cpu().numpy()
        images = frames.contiguous(memory_format=torch.channels_last)
        if self._folded is None:
            self._folded = folded(self._depth, images[:1])
        inverse, summary = self._folded.with_summary(images)
        return self._resized(lambda _: inverse, frames, height, width)[0], summary.cpu().numpy()

    def _require(self, what: str, right: np.ndarray) -> None:
        wrong = ~right.reshape(len(right), -1).all(1)
        if wrong.any():
            raise NotFiniteError(str(self.folder), what, int(wrong.argmax()))
