"""Settings of a training run."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from egodepth.core.config import Settings
from egodepth.geometry.limits import MAX_SEED, WIDEST_FOV, Sampling
from egodepth.settings.model import ModelSettings

PoseSource = Literal["network", "aligned", "sfm", "slam", "given", "auto"]
Method = Literal["joint", "frozen", "photometric", "images", "features"]


class DataSettings(Settings):
    """Settings of the footage and its preparation."""

    sources: tuple[str, ...] = ()
    """footage to train on: videos, image folders, KIND:ROOT of a data set (`egodepth data sets` lists the
    kinds), synthetic:SEED, or shards:URI of `egodepth shard`"""
    root: Path | None = None
    """folder that relative source paths refer to; by default the current directory"""
    split: str | None = None
    """train on the frames of a split only: its name (`egodepth data splits` lists them), or a file with lines
    of `folder frame side`; by default all frames"""
    views: Literal["mono", "stereo", "mono_stereo"] = "mono"
    """source views of a frame; mono: the frames before and after it; stereo: the other camera of the rig, whose
    baseline makes depth metric; mono_stereo: both"""
    poses: PoseSource = "network"
    """source of the camera motion between frames; network: PoseNet, as in the paper; aligned: PoseNet, refined
    by direct alignment in every step; sfm: structure from motion (pycolmap) before training, refined during
    training, for views mono only; slam: the same from egodepth's odometry with its loops closed, which takes
    a fraction of the time; given: poses of the data set; auto: sfm if the footage has enough parallax,
    else aligned for a hand-held and network for a vehicle-mounted camera"""
    stride: Literal["auto"] | Annotated[int, Field(ge=1)] = 1
    """frames from target to source; auto: chosen by the parallax of each video, leaving out pairs without
    parallax or across a cut"""
    focal: float | None = Field(None, gt=0, allow_inf_nan=False)
    """focal length in pixels of the footage's frames, for footage without a camera"""
    fov: float | None = Field(None, gt=0, le=WIDEST_FOV)
    """horizontal field of view in degrees, for footage without a camera"""
    camera: Path | None = None
    """camera file, for footage without a camera: egodepth's own (YAML: fx, fy, cx, cy, width, height; optional
    distortion: [k1, k2, p1, p2, k3], or lens: fisheye with distortion: [k1, k2, k3, k4]), or a file of OpenCV,
    ROS, kalibr, COLMAP (cameras.txt) or nerfstudio (transforms.json)"""
    fit_size: bool = False
    """change model.height and model.width to the size whose aspect ratio is closest to the footage's: 320x96,
    256x192, 224x128 or 128x224; egodepth train FOOTAGE does so unless one of them is set"""
    dense_labels: bool = False
    """make multi-view depth labels by plane sweep, for the loss ``dense``: before training if poses are known
    (sfm, slam and given), else with PoseNet's poses after one third and again after two thirds of the steps"""
    mask: str = "none"
    """static mask, pixels to leave out (bonnet, watermark, borders); none; auto: pixels that stay the same over
    a hundred frames or more; or an image file, whose black pixels are left out"""
    cache: Path | None = None
    """cache folder for resized frames; by default ~/.cache/egodepth/frames"""
    shard_cache: float = Field(10.0, gt=0)
    """bound of the local cache of shards (`egodepth shard`) from an object store, in GB per machine; larger
    shards are shuffled within windows that fit in"""
    augment: bool = True
    """random colour jitter and horizontal flips"""

    @property
    def directions(self) -> tuple[int, ...]:
        """Offsets of the temporal source frames from the target, in strides."""
        return () if self.views == "stereo" else (-1, 1)

    @property
    def partner(self) -> bool:
        """Whether the other camera of the rig is a source."""
        return self.views != "mono"

    @property
    def refines_poses(self) -> bool:
        """Whether poses are known before the training in a unit of their own, and refined by it."""
        return self.poses in ("sfm", "slam")

    @property
    def needs_pose_net(self) -> bool:
        """Whether PoseNet has a motion to learn."""
        return self.views != "stereo" and self.poses != "given"


class LossWeights(Settings):
    """Weight of each term of the objective."""

    photometric: float = Field(1.0, ge=0)
    """weight of L_ph: SSIM and robust L1 between warped images and the target"""
    coarse: float = Field(1.0, ge=0)
    """weight of L_ph on images at 1/4 and 1/8 resolution, for motions of many pixels; fades out linearly by the
    end of training"""
    feature_metric: float = Field(1e-3, ge=0)
    """weight of L_fm: robust L1 between warped features and those of the target"""
    smooth_first: float = Field(1e-3, ge=0)
    """weight of the edge-aware first-order smoothness of inverse depth"""
    smooth_second: float = Field(1e-3, ge=0)
    """weight of the edge-aware second-order smoothness of inverse depth"""
    scale: float = Field(0.01, ge=0)
    """weight of the term that keeps depth from drifting to infinity; zero at ordinary depths; with poses
    aligned, it ties the mean log depth to model.start_depth"""
    ground_contact: float = Field(0.0, ge=0)
    """weight of the term that keeps objects that stay in place in the image no farther than the ground below
    them, so that vehicles ahead do not become holes; for roughly level cameras"""
    pose: float = Field(0.1, ge=0)
    """weight of the difference between PoseNet's motion and its training target (poses aligned, sfm and slam),
    in units of PoseNet's output"""
    pose_prior: float = Field(3e-4, ge=0)
    """weight of the prior that keeps refined poses close to structure from motion: the cost of a correction by
    0.001 radians or DepthNet units"""
    consistency: float = Field(0.1, ge=0)
    """weight of the difference between the depths of target and source (poses aligned only, where each pair has
    its own scale)"""
    points: float = Field(0.1, ge=0)
    """weight of the robust log difference from the depth of structure-from-motion points"""
    dense: float = Field(1.0, ge=0)
    """weight of the multi-view depth labels (data.dense_labels): robust difference of log depth and its
    gradients, weighted by confidence"""
    reconstruction: float = Field(1.0, ge=0)
    """weight of L_rec: FeatureNet's reconstruction of the image"""
    discriminative: float = Field(1e-3, ge=0)
    """weight of L_dis, which favours large first-order feature gradients where the image has none"""
    convergent: float = Field(1e-3, ge=0)
    """weight of L_cvt, which favours small second-order feature gradients"""
    feature_levels: tuple[Annotated[float, Field(ge=0)], ...] = (1.0,)
    """share of each level of FeatureNet's encoder in L_fm, finest first"""
    feature_fading: bool = False
    """whether L_fm passes from the coarsest of its levels, as the training begins, to the finest at its end"""
    feature_gradient: Literal["both", "depth", "motion"] = "both"
    """what learns from L_fm: depth and motion, as in the paper, or one of them alone"""
    feature_comparison: Literal["robust", "structural"] = "robust"
    """how L_fm compares features; robust: L1, as in the paper; structural: SSIM and L1, as in L_ph"""
    feature_scale: float = Field(1.0, gt=0, le=8)
    """size of the images whose features L_fm compares, relative to model.height and model.width; 2 makes
    features twice as fine"""
    feature_mask: Literal["own", "photometric"] = "own"
    """pixels that the automask leaves out of L_fm; own: those whose features the unwarped source explains
    better; photometric: those that are left out of L_ph"""
    over_sources: Literal["minimum", "mean"] = "minimum"
    """loss of a pixel in L_ph and L_fm; minimum: that of the source that matches best, since others may not see
    it, as in the paper; mean: the mean over all sources"""
    regularize: Literal["used", "all"] = "used"
    """levels regularized by L_dis and L_cvt; used: those in L_fm, as in the paper; all: every level, with the
    weight halved at each coarser one, as in the published code"""
    regularizer_norm: Literal["none", "spread"] = "none"
    """normalization of the features in L_dis and L_cvt; none: as in the paper, where smaller features lower
    both; spread: each channel by its standard deviation, so that features get smooth instead of small"""

    @property
    def finest_level(self) -> int:
        """The finest level of FeatureNet that L_fm compares."""
        return next(level for level, share in enumerate(self.feature_levels) if share)

    @property
    def terms(self) -> dict[str, float]:
        """Weight of each term by its name."""
        return {name: value for name, value in self if isinstance(value, float)}


class TrainSettings(Settings):
    """Settings of a training run."""

    recipe: str = "footage"
    """name of the recipe that these settings started from"""
    method: Method = "joint"
    """what to train; joint: all networks together; frozen: with the frozen FeatureNet of feature_run;
    photometric: without FeatureNet; images: L_fm compares images at half resolution, as an ablation of the
    features; features: FeatureNet only"""
    feature_run: Path | None = None
    """run folder with the FeatureNet to use, for method frozen"""
    init: Path | None = None
    """initial weights: a run folder, builtin (comes with egodepth), or none (ImageNet encoders); egodepth train
    then also takes that run's model settings, learning_rate 4e-4 and decoder_rate 3"""
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    loss: LossWeights = LossWeights()
    automask: bool = True
    """leave out pixels of L_ph and L_fm that the unwarped source explains better"""
    moving_mask: bool = False
    """weight pixels of L_ph and L_fm by how well the depths of target and source agree, to suppress dynamic
    objects; DepthNet then runs on the sources too"""
    sampling: Sampling = "exact"
    """sampling positions of the warp; exact: at the pixel; published_shift: up to half a pixel off, as in the
    published code, for comparison"""
    batch_size: int = Field(4, ge=1)
    """snippets per step and process"""
    steps: int = Field(10_000, ge=1)
    """optimizer steps"""
    epochs: float | None = Field(None, gt=0)
    """passes over all snippets, instead of steps"""
    minutes: float | None = Field(None, gt=0)
    """time budget for preparation and training in minutes; limits the number of steps if fewer than ``steps``
    fit"""
    labels_first: float = Field(0.8, ge=0, le=1)
    """share of training in which depth learns from dense labels only, if they exist before training; then L_ph
    and L_fm, whose steps take twice as long, refine it"""
    learning_rate: float = Field(2e-4, gt=0)
    """peak learning rate of AdamW"""
    decoder_rate: float = Field(1.0, gt=0)
    """learning rate of DepthNet's decoder, which is not pretrained, as a multiple of learning_rate"""
    pose_learning_rate: float = Field(5e-4, ge=0)
    """learning rate (Adagrad) of the per-frame pose corrections with poses sfm, and of guessed focal lengths:
    the first step of a frame in radians; 0 keeps the poses fixed"""
    scale_learning_rate: float = Field(5e-3, ge=0)
    """learning rate of the log scale of each reconstructed part with poses sfm; 0 keeps the initial scale, from
    the median depth of its points"""
    schedule: Literal["one_cycle", "halved"] = "one_cycle"
    """learning rate schedule; one_cycle: cosine warm-up over a tenth of the steps, then cosine decay; halved:
    linear warm-up from a third over 500 steps, then halved at halve_at"""
    halve_at: tuple[float, ...] = (0.5, 0.75)
    """shares of training at which schedule halved halves the learning rate"""
    weight_decay: float = Field(1e-2, ge=0)
    """weight decay of AdamW"""
    gradient_clip: float = Field(35.0, gt=0)
    """maximum gradient norm; larger gradients are scaled down to it"""
    seed: int = Field(0, ge=0, le=MAX_SEED)
    """random seed of weights, snippet order and augmentation"""
    device: str = "auto"
    """device to train on: auto, cpu, cuda or cuda:N"""
    precision: Literal["auto", "bf16", "float32"] = "auto"
    """precision of the networks; auto: bf16 where the hardware supports it natively"""
    compile: Literal["auto", "always", "never"] = "auto"
    """compile the image comparison with torch.compile, which needs a C++ compiler on the CPU; auto: if training
    is long enough to benefit"""
    log_every: int = Field(10, ge=1)
    """steps between log entries"""
    sample_every: int = Field(250, ge=1)
    """steps between sample pictures"""
    checkpoint_every: int = Field(250, ge=1)
    """steps between checkpoints"""

    @property
    def labels_in_rounds(self) -> bool:
        """Whether labels are made during training because no poses are known before; only meaningful once
        ``data.poses`` is no longer ``auto``."""
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
        if self.method == "images" and self.loss.feature_scale != 1:
            raise ValueError("method images has no features: leave loss.feature_scale alone")
        if self.method != "frozen" and self.feature_run is not None:
            raise ValueError("feature_run is for method frozen alone")
        return self
