"""Run folders: the paths of their files, and the facts stored in them."""

import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from egodepth.core import config, progress
from egodepth.core.allowed import got
from egodepth.core.config import SettingsT
from egodepth.core.errors import EgodepthError, EgodepthWarning, require
from egodepth.core.files import find, natural_order, read_json, require_name, write_json
from egodepth.core.quiet import quiet_hub
from egodepth.core.suggestions import similar_path
from egodepth.runs.motion_gap import MotionGap
from egodepth.settings.model import Side
from egodepth.settings.recipes import BUILTIN
from egodepth.settings.stored import read_whole_settings
from egodepth.settings.training import DataSettings, TrainSettings

HUB = "hf:"
"""Prefix for the name of a run on the hub, wherever a run is named."""
BUILTIN_FOLDER = Path(__file__).parents[1] / "builtin"


class RunFacts(BaseModel):
    """Facts about a run besides its settings: the content of its run.json. Facts that only the report shows
    (versions, machine, plan) are extra fields.

    Attributes:
        refined: what the run was refined on, in words, or empty.
        metric: what makes its lengths metres, in words; empty if they have another unit.
        unit: unit of its lengths, in words, if they are not metres.
        poses: where the camera motions came from in its training.
        motion_gap: gap between the frames of PoseNet's training pairs; None in runs of older versions.
        seconds: training time; 0 if the training was killed before it was written.
        steps: number of training steps.
        sizes: heights and widths of the training images, if there were several sizes.
        rendered_worlds: number of rendered worlds that it learned from, in earlier pretrainings too.
        earlier_steps, earlier_seconds: of the pretrainings that a pretraining goes on from.
        kept_start: whether it is the start of a training, kept because the training made it worse.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    refined: str = ""
    metric: str = ""
    unit: str = "the run's unit"
    poses: str = "network"
    motion_gap: MotionGap | None = None
    seconds: float = Field(0.0, ge=0, allow_inf_nan=False)
    steps: int | None = Field(None, ge=0)
    sizes: tuple[tuple[Side, Side], ...] = ()
    rendered_worlds: int = Field(0, ge=0)
    earlier_steps: int = Field(0, ge=0)
    earlier_seconds: float = Field(0.0, ge=0, allow_inf_nan=False)
    kept_start: bool = False

    def only(self, names: Iterable[str]) -> dict[str, Any]:
        """The named facts, as far as the run has stored them."""
        told = self.model_dump(exclude_unset=True)
        return {name: told[name] for name in names if name in told}


class RunFolder(os.PathLike[str]):
    """Paths and facts of a run.

    Attributes:
        path: path of the folder.
        name: name of the run for people: the folder's name, or ``OWNER/NAME`` on the hub.
    """

    def __init__(self, path: Path, name: str):
        self.path, self.name = path, name

    @classmethod
    def at(cls, run: "RunLike") -> "RunFolder":
        """The folder of a run given as a path, whether or not a run is there yet; as ``builtin``, which comes
        with the package; or as ``hf:OWNER/NAME``, which is downloaded once.

        Raises:
            EgodepthError: as :func:`download`, or a package without the run ``builtin``.
        """
        if isinstance(run, RunFolder):
            return run
        require(run, (str, Path), "folder", "the path of a run, builtin, or hf:OWNER/NAME")
        if str(run) == BUILTIN:
            return cls._builtin()
        require_name(run, "a run")
        # Works for a Path too: in hf:OWNER/NAME there is nothing that Path would normalize.
        hub_name = str(run).removeprefix(HUB)
        if hub_name != str(run):
            return cls(download(hub_name), hub_name)
        return cls(Path(run), Path(os.path.realpath(run)).name)

    @classmethod
    def to_use(cls, run: "RunLike") -> "RunFolder":
        """The folder of the networks to use of a run: its own, or, with a warning, those that its training
        started from, if they were kept because the training made them worse.

        Raises:
            EgodepthError: as :meth:`at`.
        """
        found = cls.at(run)
        if not found.has_kept_start:
            return found
        warnings.warn(
            f"{found} ended worse than it started: the networks of its start are used; to use the trained "
            f"ones, delete {found.start}",
            EgodepthWarning,
            stacklevel=3,
        )
        return found.start

    @classmethod
    def to_make(cls, path: str | Path) -> "RunFolder":
        """The folder of a run to make or to resume.

        Raises:
            EgodepthError: ``builtin``, the name of a run on the hub, or an empty text (not the working folder).
        """
        require(path, (str, Path), "out", "the folder to make")
        if (word := str(path)) in ("", BUILTIN) or word.startswith(HUB):
            is_what = (
                f"{word} names a run that is kept elsewhere" if word else "it is an empty text"
            )
            raise EgodepthError(f"no folder to write to: {is_what}; name a folder with --out")
        return cls.at(path)

    @classmethod
    def _builtin(cls) -> "RunFolder":
        found = cls(BUILTIN_FOLDER, BUILTIN)
        if not (found.exists and found.weights.exists()):
            raise EgodepthError(
                "this version comes without the run builtin; make one by: egodepth pretrain --out runs/worlds"
            )
        if cls(Path(BUILTIN), BUILTIN).exists:
            warnings.warn(
                "builtin is the run that comes with egodepth; for the folder of that name here write "
                f"{Path(BUILTIN).resolve()}",
                EgodepthWarning,
                stacklevel=3,
            )
        return found

    @classmethod
    def holding(cls, file: Path) -> "RunFolder | None":
        """The run that a camera file belongs to; None if it belongs to no run."""
        folder = cls.at(file.parent)
        is_kept = file == folder.camera and (folder.exists or folder.cameras.exists())
        return folder if is_kept else None

    def __str__(self) -> str:
        return str(self.path)

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def config(self) -> Path:
        """Path of the settings; a folder with this file is a run folder."""
        return self.path / "config.yaml"

    @property
    def facts_file(self) -> Path:
        """Path of run.json, see :class:`RunFacts`."""
        return self.path / "run.json"

    @property
    def checkpoint(self) -> Path:
        """Path of the checkpoint: the weights, and the state that a training resumes from."""
        return self.path / "checkpoint.ckpt"

    @property
    def weights(self) -> Path:
        """Path of the weights that replace the checkpoint in a published run."""
        return self.path / "model.safetensors"

    @property
    def confidence(self) -> Path:
        """Path of the weights of the confidence head; runs of before, and some imported ones, have none."""
        return self.path / "confidence.safetensors"

    @property
    def start(self) -> "RunFolder":
        """Run with the networks that the training started from, kept if the training made them worse."""
        return RunFolder(self.path / "start", f"{self.name}/start")

    @property
    def has_kept_start(self) -> bool:
        """Whether a training kept its start here; a run of that name may be there for another reason."""
        return self.start.exists and self.start.facts().kept_start

    @property
    def camera(self) -> Path:
        """Path of the camera of the first training footage, with its lens, at the size of its frames."""
        return self.path / "camera.yaml"

    @property
    def cameras(self) -> Path:
        """Folder of the cameras of all footage, by name, if there were several pieces."""
        return self.path / "cameras"

    def camera_of(self, name: str) -> Path:
        """Path of the camera of one of several pieces of footage."""
        return self.cameras / f"{name}.yaml"

    def camera_files(self) -> dict[str, Path]:
        """Camera files by name of the footage; the first one's under the empty name. Empty if the run has
        none."""
        if not self.camera.exists():
            return {}
        return {"": self.camera} | {
            file.relative_to(self.cameras).as_posix().removesuffix(".yaml"): file
            for file in find(self.cameras, "*.yaml")
        }

    @property
    def metrics(self) -> Path:
        """Path of the demo's scores."""
        return self.path / "metrics.json"

    @property
    def samples(self) -> Path:
        """Folder of the sample images written during the training."""
        return self.path / "samples"

    def sample(self, step: int) -> Path:
        """Path of the sample image of a step."""
        return self.samples / f"step_{step:06d}.png"

    def sample_files(self) -> dict[int, Path]:
        """The sample images by step, in order."""
        files = natural_order(self.samples.glob("step_*.png"))
        return {int(p.stem[5:]): p for p in files if p.stem[5:].isdecimal()}

    def log_version(self, step: int) -> str:
        """Lightning's version name for the log of a session that starts at a step."""
        return f"csv_{step:07d}"

    @property
    def logs(self) -> Path:
        """Folder of the logs, one for each session of the training."""
        return self.path / "logs"

    def log_files(self) -> dict[int, Path]:
        """The logs of losses by the first step of their session, in order."""
        files = {p.parent.name[4:]: p for p in self.logs.glob("csv_*/metrics.csv")}
        return dict(sorted((int(step), p) for step, p in files.items() if step.isdecimal()))

    @property
    def curves(self) -> Path:
        """Path of the plot of the losses."""
        return self.path / "losses.png"

    @property
    def landscape(self) -> Path:
        """Path of the plot of the loss landscape."""
        return self.path / "landscape.png"

    @property
    def report(self) -> Path:
        """Path of the report."""
        return self.path / "report.html"

    @property
    def is_builtin(self) -> bool:
        """Whether it is the run that comes with the package."""
        return self.path == BUILTIN_FOLDER

    @property
    def exists(self) -> bool:
        """Whether the folder is a run folder."""
        return self.config.exists()

    def check(self) -> "RunFolder":
        """Return this folder if it is a run folder.

        Raises:
            EgodepthError: it is not.
        """
        if not self.exists:
            if self.path.exists():
                raise EgodepthError(f"{self} is not a run folder: it holds no {self.config.name}")
            raise EgodepthError(f"there is no run folder {self}{self.similar()}")
        return self

    def similar(self) -> str:
        """Return "; did you mean 'RUN'?" for the run that was probably meant, or an empty string."""
        return similar_path(self.path, lambda path: (path / self.config.name).exists(), [BUILTIN])

    def settings(self) -> TrainSettings:
        """Read the settings that the run was trained with.

        Raises:
            EgodepthError: no run, or settings that this version does not know.
        """
        read_whole_settings(self.check().config)
        return config.load(TrainSettings, self.config)

    def section(self, kind: type[SettingsT], name: str) -> SettingsT:
        """Read one section of the settings.

        Raises:
            EgodepthError: as :meth:`settings`.
        """
        read_whole_settings(self.check().config)
        return config.load(kind, self.config, name)

    def data_settings(self) -> DataSettings:
        """Read the data settings of the training, without those that this version does not know.

        Raises:
            EgodepthError: no run, or a broken file.
        """
        read_whole_settings(self.check().config)
        return config.load(DataSettings, self.config, "data", strict=False)

    def settings_tree(self) -> dict[str, Any]:
        """The settings as names and values, as they are in the file.

        Raises:
            EgodepthError: no run, or a broken file.
        """
        return read_whole_settings(self.check().config)

    def facts(self) -> RunFacts:
        """Read run.json; defaults if there is none.

        Raises:
            EgodepthError: a broken file.
        """
        try:
            return RunFacts.model_validate(read_facts(self.facts_file))
        except ValidationError as error:
            first = error.errors()[0]
            raise EgodepthError(
                f"{self.facts_file} is broken: {first['loc'][0]} is {got(first['input'])}"
            ) from error

    def write_facts(self, facts: Mapping[str, Any]) -> None:
        """Write run.json; raises EgodepthError if it can't be written."""
        write_json(self.facts_file, dict(facts))

    def motion_gap(self) -> MotionGap:
        """The gap between the frames of PoseNet's training pairs. Runs of older versions, which did not store
        it, give the stride of their settings; 1, with a warning, if that was chosen per video.

        Raises:
            EgodepthError: a broken file.
        """
        known = self.facts().motion_gap
        if known is not None or not self.exists:
            return known or MotionGap()
        return MotionGap.of_stride(self.data_settings().stride, str(self))


RunLike = str | Path | RunFolder
"""Anything that names a run."""


def read_facts(path: Path) -> dict[str, Any]:
    """Read the names and values in a JSON file of a run folder; empty if there is none.

    Raises:
        EgodepthError: a broken file.
    """
    if not path.exists():
        return {}
    facts = read_json(path, "the file")
    if not isinstance(facts, dict):
        raise EgodepthError(f"the file {path} is broken: it holds no names and values")
    return facts


def download(name: str, **options: Any) -> Path:
    """Download a run from the hub once, and return its folder.

    Args:
        name: OWNER/NAME.
        options: options for ``huggingface_hub.snapshot_download``.

    Raises:
        EgodepthError: no such run, or no network.
    """
    import huggingface_hub

    try:
        with quiet_hub(), progress.phase(f"downloading {name}"):
            return Path(huggingface_hub.snapshot_download(name, **options))
    except (
        Exception
    ) as error:  # from the hub, requests or the system: all mean that the run is not available
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EgodepthError(
            f"cannot get the run {name} from the Hugging Face hub: {reason}"
        ) from error
