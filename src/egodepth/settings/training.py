"""Settings of a training run."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from egodepth.core.config import Settings
from egodepth.geometry.limits import MAX_SEED, WIDEST_FOV, Sampling
from egodepth.settings.model import ModelSettings

PoseSource = Literal["network", "aligned", "sfm", "given", "auto"]
Method = Literal["joint", "frozen", "photometric", "images", "features"]


class DataSettings(Settings):
    """Settings of the footage, and of what is made of it before the training."""

    sources: tuple[str, ...] = ()
    """footage to train on: paths of videos or folders of images, KIND:ROOT of a data set (`egodepth data sets`
    lists the kinds), or synthetic:SEED"""
    root: Path | None = None
    """folder that relative sources start from; by default the working folder"""
    split: str | None = None
    """train on these frames alone: name of a split (`egodepth data splits` lists them), or a file with lines of
    `folder frame side`; by default all frames"""
    views: Literal["mono", "stereo", "mono_stereo"] = "mono"
    """source views of a frame; mono: its neighbours in time; stereo: the other camera of the rig, whose
    baseline makes depth metric; mono_stereo: both"""
    poses: PoseSource = "network"
    """where the motion between neighbours in time comes from; network: PoseNet, as in the paper; aligned:
    PoseNet, refined by direct alignment in every step; sfm: structure from motion (pycolmap) before the
    training, refined during it, for views mono; given: the data set's poses; auto: sfm where the footage shows
    enough parallax, else aligned for a hand-held camera and network for one that drives"""
    stride: Literal["auto"] | Annotated[int, Field(ge=1)] = 1
    """frames between target and sources; auto: chosen by the parallax of each video, leaving out pairs that
    stand still or span a cut"""
    focal: float | None = Field(None, gt=0, allow_inf_nan=False)
    """focal length in pixels of the footage's frames, for footage without a camera"""
    fov: float | None = Field(None, gt=0, le=WIDEST_FOV)
    """horizontal field of view in degrees, for footage without a camera"""
    camera: Path | None = None
    """camera file, for footage without a camera: egodepth's own (YAML: fx, fy, cx, cy, width, height, and for a
    lens distortion: [k1, k2, p1, p2, k3], or lens: fisheye with distortion: [k1, k2, k3, k4]), or one of
    OpenCV, ROS, kalibr, COLMAP (cameras.txt) or nerfstudio (transforms.json)"""
    dense_labels: bool = False
    """make multi-view depth labels by plane sweep, for the loss ``dense``: before the training where poses are
    known (sfm and given), else after a third of it with PoseNet's poses, and again after two thirds"""
    mask: str = "none"
    """pixels of the ego vehicle to leave out (bonnet, watermark, borders); auto: what stays in place over a
    hundred frames or more; or an image file, whose black pixels are left out"""
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
        """Say what makes lengths metric; empty where nothing does. Poses do only where they are in
        metres, see :attr:`egodepth.data.sequence.Sequence.metric_poses`."""
        if self.views != "mono":
            return "the baseline of the rig that the run was trained with"
        return "the poses that the run was trained with" if self.poses == "given" else ""


class LossWeights(Settings):
    """Weight of each term of the objective."""

    photometric: float = Field(1.0, ge=0)
    """weight of L_ph: SSIM and robust L1 between warped images and the target"""
    coarse: float = Field(1.0, ge=0)
    """weight of L_ph on images at 1/4 and 1/8, which reaches motions of many pixels; fades out by the end of
    the training"""
    feature_metric: float = Field(1e-3, ge=0)
    """weight of L_fm: robust L1 between warped features and those of the target"""
    smooth_first: float = Field(1e-3, ge=0)
    """weight of the edge-aware first-order smoothness of inverse depth"""
    smooth_second: float = Field(1e-3, ge=0)
    """weight of the edge-aware second-order smoothness of inverse depth"""
    scale: float = Field(0.01, ge=0)
    """weight of the term that keeps depth from escaping to infinity; zero at ordinary depths; with poses
    aligned it ties the mean depth to DepthNet's unit"""
    ground_contact: float = Field(0.0, ge=0)
    """weight of the term that holds what stays in place in the image no farther than the ground below it, so
    that cars driving ahead do not become holes; for cameras that look about level"""
    pose: float = Field(0.1, ge=0)
    """weight of PoseNet's distance from the motion it learns from (poses aligned and sfm), in units of its
    head"""
    pose_prior: float = Field(3e-4, ge=0)
    """weight of the prior that holds refined poses at those of structure from motion: the cost of a correction
    by 0.001 radians or DepthNet units"""
    consistency: float = Field(0.1, ge=0)
    """weight of the difference between the depths of target and source (poses aligned, where each pair has its
    own scale)"""
    points: float = Field(0.1, ge=0)
    """weight of the depth at the points of structure from motion, as robust log difference"""
    dense: float = Field(1.0, ge=0)
    """weight of the multi-view depth labels (data.dense_labels): robust difference of log depth and of its
    gradients, times their confidence"""
    reconstruction: float = Field(1.0, ge=0)
    """weight of L_rec: FeatureNet's reconstruction of the image"""
    discriminative: float = Field(1e-3, ge=0)
    """weight of L_dis: large first-order feature gradients where the image has none"""
    convergent: float = Field(1e-3, ge=0)
    """weight of L_cvt: small second-order feature gradients"""
    feature_levels: tuple[Annotated[float, Field(ge=0)], ...] = (1.0,)
    """share of each level of FeatureNet's encoder in L_fm, finest first"""
    feature_comparison: Literal["robust", "structural"] = "robust"
    """how L_fm compares features; robust: L1, as in the paper; structural: SSIM and L1, as L_ph does"""
    regularize: Literal["used", "all"] = "used"
    """levels that L_dis and L_cvt act on; used: those in L_fm, as in the paper; all: every level, with half the
    weight at each coarser one, as in the published code"""

    @property
    def terms(self) -> dict[str, float]:
        """Weight of each term by its name."""
        return {name: value for name, value in self if isinstance(value, float)}


class TrainSettings(Settings):
    """All settings of a training run."""

    recipe: str = "footage"
    """name of the recipe that these settings started from"""
    method: Method = "joint"
    """what is trained; joint: all networks together; frozen: with the fixed FeatureNet of feature_run;
    photometric: without FeatureNet; images: L_fm compares images at half size, which tells what features add;
    features: FeatureNet alone"""
    feature_run: Path | None = None
    """run folder whose FeatureNet is used, for method frozen"""
    init: Path | None = None
    """run folder whose weights the networks start from, builtin, which comes with egodepth, or none (encoders
    from ImageNet); on the command line also its model settings, and learning rates that keep what it knows
    (learning_rate 1e-4, decoder_rate 1)"""
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    loss: LossWeights = LossWeights()
    automask: bool = True
    """leave out pixels of L_ph and L_fm that the unwarped source explains better"""
    moving_mask: bool = False
    """weigh pixels of L_ph and L_fm by how well the depths of both frames agree, against dynamic objects; costs
    DepthNet's time for the sources too"""
    sampling: Sampling = "exact"
    """where warping samples; exact: at the pixel; published_shift: up to half a pixel off, as in the published
    code, for comparing with it"""
    batch_size: int = Field(4, ge=1)
    """snippets per step, of each process"""
    steps: int = Field(10_000, ge=1)
    """optimizer steps"""
    epochs: float | None = Field(None, gt=0)
    """passes over all snippets, in place of steps"""
    minutes: float | None = Field(None, gt=0)
    """time for preparation and training, in minutes: where fewer than ``steps`` fit, the number of steps
    follows the clock"""
    labels_first: float = Field(0.8, ge=0, le=1)
    """share of the training in which depth learns from dense labels alone, if there are any before it; then
    L_ph and L_fm, whose steps take twice as long, refine it"""
    learning_rate: float = Field(2e-4, gt=0)
    """peak learning rate of AdamW"""
    decoder_rate: float = Field(1.0, gt=0)
    """learning rate of DepthNet's decoder, which is not pretrained, over that of the encoders"""
    pose_learning_rate: float = Field(5e-4, ge=0)
    """learning rate (Adagrad) of the pose corrections with poses sfm, one per frame, and of guessed focal
    lengths: a frame's first step in radians; 0 keeps the poses as they are"""
    scale_learning_rate: float = Field(5e-3, ge=0)
    """learning rate of the log scale of each sequence with poses sfm; 0 takes the median depth of its points
    for DepthNet's unit"""
    schedule: Literal["one_cycle", "halved"] = "one_cycle"
    """how the learning rate changes; one_cycle: cosine rise over a tenth of the steps, cosine fall to the end;
    halved: linear rise from a third over 500 steps, then halved at halve_at"""
    halve_at: tuple[float, ...] = (0.5, 0.75)
    """shares of the training after which schedule halved halves the rate"""
    weight_decay: float = Field(1e-2, ge=0)
    """weight decay of AdamW"""
    gradient_clip: float = Field(35.0, gt=0)
    """largest norm of the gradient; larger ones are scaled down to it"""
    seed: int = Field(0, ge=0, le=MAX_SEED)
    """seed of weights, order and augmentation"""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N"""
    precision: Literal["auto", "bf16", "float32"] = "auto"
    """precision of the networks; auto: bf16 where the machine computes it natively"""
    compile: Literal["auto", "always", "never"] = "auto"
    """compile the comparison of images by torch.compile, which needs a C++ compiler on the CPU; auto: where the
    training is long enough to gain by it"""
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

    @field_validator("init", mode="before")
    @classmethod
    def _none_is_none(cls, init: object) -> object:
        return None if str(init) == "none" else init

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if not any(self.loss.feature_levels):
            raise ValueError("loss.feature_levels needs one share above zero")
        if self.method == "images" and self.loss.feature_levels != (1.0,):
            raise ValueError("method images has one level: leave loss.feature_levels alone")
        if self.method != "frozen" and self.feature_run is not None:
            raise ValueError("feature_run is for method frozen alone")
        return self
