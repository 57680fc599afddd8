"""Every setting of a training run."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from egodepth.core.config import Settings
from egodepth.geometry.limits import WIDEST_FOV, Sampling
from egodepth.settings.model import ModelSettings

PoseSource = Literal["network", "aligned", "sfm", "given", "auto"]
Method = Literal["joint", "frozen", "photometric", "images", "features"]


class DataSettings(Settings):
    """What to train on."""

    sources: tuple[str, ...] = ()
    """footage: paths of folders or videos, KIND:ROOT of a data set (`egodepth data sets` lists the kinds),
    synthetic:SEED"""
    root: Path | None = None
    """folder that relative sources start from"""
    split: str | None = None
    """name of a split (`egodepth data splits` lists them) or file of `folder frame side` lines: its frames
    alone are targets"""
    views: Literal["mono", "stereo", "mono_stereo"] = "mono"
    """sources of a frame; mono: its neighbours in time; stereo: the other camera of the rig, whose
    baseline makes the depth metric; mono_stereo: all three"""
    poses: PoseSource = "network"
    """where motions in time come from; network: PoseNet, as in the paper; aligned: PoseNet's, refined by
    direct alignment in every step, which PoseNet learns from; sfm: structure from motion (pycolmap)
    before the training, refined with the losses, for views mono; given: the data set's poses; auto: sfm where
    the video shows enough parallax and half of its pairs of frames find a motion, else network for a camera
    that drives and aligned for a hand-held one"""
    stride: Literal["auto"] | Annotated[int, Field(ge=1)] = 1
    """frames between target and sources; auto: by the parallax of each video, leaving out pairs that
    stand still or hold a cut"""
    focal: float | None = Field(None, gt=0, allow_inf_nan=False)
    """focal length in pixels of the footage's frames, for footage that brings no camera"""
    fov: float | None = Field(None, gt=0, le=WIDEST_FOV)
    """horizontal field of view in degrees, from the left to the right edge of the frames, for footage that
    brings no camera"""
    camera: Path | None = None
    """camera file, for footage that brings no camera: egodepth's own (YAML: fx, fy, cx, cy, width, height, and
    with a lens distortion: [k1, k2, p1, p2, k3], or lens: fisheye with distortion: [k1, k2, k3, k4]), or one
    of OpenCV, ROS, kalibr, COLMAP (cameras.txt) or nerfstudio (transforms.json)"""
    dense_labels: bool = False
    """depth from many views by plane sweep, for the loss ``dense``: before the training where poses are known
    before it (sfm and given), else after a third of it, with PoseNet's poses of that moment, and again after
    two thirds"""
    mask: str = "none"
    """pixels that belong to the camera (bonnet, watermark, borders) and say nothing; auto: those that
    stay in place over a hundred frames or more; or an image file, whose black pixels are left out"""
    cache: Path | None = None
    """folder for resized frames; by default ~/.cache/egodepth/frames"""
    augment: bool = True
    """jitter colours and mirror snippets at random"""

    @property
    def directions(self) -> tuple[int, ...]:
        """Source frames in time relative to the target, in strides."""
        return () if self.views == "stereo" else (-1, 1)

    @property
    def partner(self) -> bool:
        """Whether the other camera of the rig is a source."""
        return self.views != "mono"

    @property
    def needs_pose_net(self) -> bool:
        """Whether there is a motion for PoseNet to learn."""
        return self.views != "stereo" and self.poses != "given"

    @property
    def metric(self) -> str:
        """What makes lengths metres, in words; empty where nothing does. Poses do only where they are in
        metres, see :attr:`egodepth.data.sequence.Sequence.metric_poses`."""
        if self.views != "mono":
            return "the baseline of the rig that the run was trained with"
        return "the poses that the run was trained with" if self.poses == "given" else ""


class LossWeights(Settings):
    """Weight of each term of the objective."""

    photometric: float = Field(1.0, ge=0)
    """L_ph: SSIM and robust L1 of warped images"""
    coarse: float = Field(1.0, ge=0)
    """L_ph on small images, whose slopes reach motions of many pixels; fades to nothing by the end"""
    feature_metric: float = Field(1e-3, ge=0)
    """L_fm: robust L1 of warped features"""
    smooth_first: float = Field(1e-3, ge=0)
    """edge-aware first-order smoothness of inverse depth"""
    smooth_second: float = Field(1e-3, ge=0)
    """edge-aware second-order smoothness of inverse depth"""
    scale: float = Field(0.01, ge=0)
    """keeps the free scale from running away to the farthest depth; zero at ordinary depths; with
    poses aligned, ties the mean depth to DepthNet's unit"""
    ground_contact: float = Field(0.0, ge=0)
    """what stays in place in the image while the camera moves is no farther than the ground below it,
    so that cars that drive ahead do not become holes; for level cameras"""
    pose: float = Field(0.1, ge=0)
    """what PoseNet says less the motion it learns from (poses aligned and sfm), in units of its head"""
    pose_prior: float = Field(3e-4, ge=0)
    """keeps refined poses where structure from motion found them: what a correction by one thousandth of a
    radian, or of DepthNet's unit, costs"""
    consistency: float = Field(0.1, ge=0)
    """depth of target and source must agree (poses aligned, where each pair has its own scale)"""
    points: float = Field(0.1, ge=0)
    """depth at the points of structure from motion, as robust difference of logarithms"""
    dense: float = Field(1.0, ge=0)
    """depth of the labels from many views (data.dense_labels), as robust difference of logarithms, by
    confidence"""
    reconstruction: float = Field(1.0, ge=0)
    """L_rec: FeatureNet's reconstruction of the image"""
    discriminative: float = Field(1e-3, ge=0)
    """L_dis: large first-order feature gradients where the image has none"""
    convergent: float = Field(1e-3, ge=0)
    """L_cvt: small second-order feature gradients"""
    feature_levels: tuple[Annotated[float, Field(ge=0)], ...] = (1.0,)
    """share of each level of FeatureNet's encoder in L_fm, finest first"""
    feature_comparison: Literal["robust", "structural"] = "robust"
    """how L_fm compares features; robust: L1, as in the paper; structural: SSIM and L1, as L_ph does"""
    regularize: Literal["used", "all"] = "used"
    """levels that L_dis and L_cvt act on; used: those in L_fm, as in the paper; all: every level,
    halved from each to the next coarser one, as in the published code"""

    @property
    def terms(self) -> dict[str, float]:
        """Weight of each term by its name."""
        return {name: value for name, value in self if isinstance(value, float)}


class TrainSettings(Settings):
    """A training run."""

    recipe: str = "footage"
    """name of the recipe that these settings started from"""
    method: Method = "joint"
    """joint: FeatureNet learns along; frozen: it comes from feature_run; photometric: without it;
    images: L_fm compares the images at half size, which tells what features add; features: it alone"""
    feature_run: Path | None = None
    """run folder whose FeatureNet is used, for method frozen"""
    init: Path | None = None
    """run folder whose weights the networks start from; on the command line its model settings too"""
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    loss: LossWeights = LossWeights()
    automask: bool = True
    """leave pixels that the unwarped source explains better out of L_ph and L_fm"""
    moving_mask: bool = False
    """weigh pixels in L_ph and L_fm by how well the depths of both frames agree, against what moves
    across; takes DepthNet's time for the sources too"""
    sampling: Sampling = "exact"
    """where warping samples; published_shift: up to half a pixel off, as the published code does, for
    comparing with it"""
    batch_size: int = Field(4, ge=1)
    """snippets a step"""
    steps: int = Field(10_000, ge=1)
    """optimizer steps"""
    epochs: float | None = Field(None, gt=0)
    """passes over all snippets, in place of steps"""
    minutes: float | None = Field(None, gt=0)
    """time for the training, its preparation included: fewer steps than ``steps`` are made where the machine
    needs it; their number follows the clock while the training runs"""
    labels_first: float = Field(0.5, ge=0, le=1)
    """share of the training in which depth learns from dense labels alone, where there are any before it; L_ph
    and L_fm, whose steps take twice as long, refine it after that"""
    learning_rate: float = Field(2e-4, gt=0)
    """peak of the learning rate of AdamW"""
    decoder_rate: float = Field(1.0, gt=0)
    """learning rate of DepthNet's decoder, which starts from nothing, over that of the encoders"""
    pose_learning_rate: float = Field(5e-4, ge=0)
    """of the corrections that poses from structure from motion get in training, one per frame, and of focal
    lengths that were guessed (Adagrad's: a frame's first step, in radians); 0 leaves them as they were
    found"""
    scale_learning_rate: float = Field(5e-3, ge=0)
    """of the logarithm of each sequence's scale, which structure from motion leaves open; 0 takes the
    median depth of its points for DepthNet's unit"""
    schedule: Literal["one_cycle", "halved"] = "one_cycle"
    """one_cycle: cosine up over a tenth of the steps, and down; halved: linear up over 500 steps from
    a third, then halved at halve_at"""
    halve_at: tuple[float, ...] = (0.5, 0.75)
    """shares of the training after which schedule halved halves the rate"""
    weight_decay: float = Field(1e-2, ge=0)
    """AdamW's weight decay"""
    gradient_clip: float = Field(35.0, gt=0)
    """largest norm of the gradient"""
    seed: int = 0
    """fixes weights, order and augmentation"""
    device: str = "auto"
    """auto, cpu, cuda, or cuda:N"""
    precision: Literal["auto", "bf16", "float32"] = "auto"
    """auto: bf16 where the machine computes it natively"""
    compile: Literal["auto", "always", "never"] = "auto"
    """compile the comparison of images by torch.compile, which needs a C++ compiler on the CPU; auto:
    where the training is long enough to win by it"""
    log_every: int = Field(10, ge=1)
    """steps between two rows of the log"""
    sample_every: int = Field(250, ge=1)
    """steps between two sample pictures"""
    checkpoint_every: int = Field(250, ge=1)
    """steps between two checkpoints"""

    @property
    def labels_in_rounds(self) -> bool:
        """Whether labels are made during the training, since no poses are known before it; not before ``auto``
        is decided."""
        data, learned = self.data, self.method != "features" and self.loss.dense > 0
        found = bool(data.directions) and data.poses in ("network", "aligned")
        return data.dense_labels and learned and found

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if not any(self.loss.feature_levels):
            raise ValueError("loss.feature_levels needs one share above zero")
        if self.method == "images" and self.loss.feature_levels != (1.0,):
            raise ValueError("method images has one level: leave loss.feature_levels alone")
        if self.method != "frozen" and self.feature_run is not None:
            raise ValueError("feature_run is for method frozen alone")
        return self
