"""Publishing runs: safetensors, settings and a model card, on disk or on the Hugging Face hub."""

from importlib.resources import files
from shutil import copyfile
from typing import Any

from egodepth.core.config import save_tree
from egodepth.core.files import atomic_path, reading
from egodepth.data.footage.camera_file import read_calibration
from egodepth.runs.folder import RunFolder, read_facts
from egodepth.runs.motion_gap import FACT as MOTION_GAP

CARD_TEMPLATE = (files("egodepth.runs") / "model_card.md.jinja").read_text(encoding="utf-8")
KEPT_FACTS = (
    "egodepth", "torch", "steps", "poses", "metric", "unit", "precision", "refined", "seconds", "sizes",
    MOTION_GAP,
)  # fmt: skip
"""Facts of run.json that are published; the others describe the machine and its folders."""
PRIVATE: dict[str, Any] = {
    "data": {"sources": [], "root": None, "cache": None, "camera": None, "mask": "none"},
    "init": None, "feature_run": None,
}  # fmt: skip
"""Settings that are paths on the training machine, and their values in a published run."""


def save_facts(source: RunFolder, target: RunFolder) -> None:
    """Write everything but the weights of a run: settings without paths, facts and cameras."""
    tree = source.settings_tree()
    with reading(source.config, "the file of the run's settings"):
        for name, value in PRIVATE.items():
            if isinstance(value, dict):
                tree[name] = {**(tree.get(name) or {}), **value}
            else:
                tree[name] = value
    target.config.unlink(missing_ok=True)  # it makes the folder a run, so it is written last
    target.write_facts(source.facts().only(KEPT_FACTS))
    for stale in target.camera_files().values():
        stale.unlink()
    for name, file in source.camera_files().items():
        read_calibration(file)
        with atomic_path(target.camera_of(name) if name else target.camera) as partial:
            copyfile(file, partial)
    save_tree(tree, target.config)


def card_values(folder: RunFolder) -> dict[str, Any]:
    """Values for the template of a run's model card."""
    tree, facts = folder.settings_tree(), folder.facts()
    told, model = facts.only(KEPT_FACTS), tree["model"]
    data = tree.get("data")
    encoder = model.get("depth_model") or model.get("depth_encoder")
    rows = [
        ("image size", f"{model.get('width')} x {model.get('height')}"),
        ("DepthNet", encoder),
        ("method", tree.get("method")),
        (
            "motion in training",
            told.get("poses", data.get("poses") if isinstance(data, dict) else None),
        ),
        ("steps", facts.steps),
        ("training time", f"{facts.seconds / 60:.0f} min" if facts.seconds else None),
        ("egodepth", told.get("egodepth")),
        ("refined", facts.refined),
    ]
    with reading(folder.metrics, "the file of scores"):
        scores = read_facts(folder.metrics).get("depth") or {}
        depth = {name: float(value) for name, value in scores.items()}
    names = {"abs_rel": "Abs Rel", "rmse": "RMSE", "a1": "delta 1"}
    return {
        "title": folder.name,
        "facts": [(name, value) for name, value in rows if value not in (None, "")],
        "scores": [(text, f"{depth[name]:.3f}") for name, text in names.items() if name in depth],
        "unit": f"metres, by {facts.metric}" if facts.metric else told.get("unit", "a unit of the run's own"),
        "camera": folder.camera.exists(),
    }  # fmt: skip
