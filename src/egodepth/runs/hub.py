"""Runs for others: a folder with safetensors, settings and a model card, on disk or on the Hugging Face hub."""

from importlib.resources import files
from pathlib import Path
from shutil import copyfile
from typing import Any

import yaml
from huggingface_hub import snapshot_download

from egodepth.core.errors import EgodepthError
from egodepth.core.files import atomic_path, read_text, write_json, write_text
from egodepth.data.own_footage import CAMERA_FILE
from egodepth.runs.checkpoint import CONFIG, read_facts
from egodepth.runs.motion_gap import FACT as MOTION_GAP

HUB = "hf:"
"""Before the name of a run on the hub, wherever a run is named."""
CARD_TEMPLATE = (files("egodepth.runs") / "model_card.md.jinja").read_text(encoding="utf-8")
KEPT_FACTS = (
    "egodepth", "torch", "steps", "poses", "metric", "unit", "precision", "refined", "seconds", MOTION_GAP,
)  # fmt: skip
"""Of run.json; the rest tells of the machine and its folders."""
PRIVATE: dict[str, Any] = {
    "data": {"sources": [], "root": None, "cache": None, "camera": None, "mask": "none"},
    "init": None, "feature_run": None,
}  # fmt: skip
"""Settings that are paths of whoever trained."""


def download(name: str, **how: Any) -> Path:
    """The folder of a run on the hub, downloaded once.

    Args:
        name: OWNER/NAME.
        how: of ``huggingface_hub.snapshot_download``.

    Raises:
        EgodepthError: no such run, or no network.
    """
    try:
        return Path(snapshot_download(name, **how))
    except (
        Exception
    ) as error:  # the hub's, requests' and the system's: all mean that it is not there
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EgodepthError(
            f"cannot get the run {name} from the Hugging Face hub: {reason}"
        ) from error


def find_run(name: str | Path) -> Path:
    """The folder of a run: a path, or ``hf:OWNER/NAME``.

    Raises:
        EgodepthError: see :func:`download`.
    """
    text = str(name)
    return download(text.removeprefix(HUB)) if text.startswith(HUB) else Path(name)


def save_facts(source: Path, target: Path) -> None:
    """What else than weights makes a run: settings without paths, what is known of it, its camera."""
    tree = yaml.safe_load(read_text(source / CONFIG, "the run's settings"))
    for name, value in PRIVATE.items():
        if isinstance(value, dict):
            tree[name] = {**tree.get(name, {}), **value}
        else:
            tree[name] = value
    write_text(target / CONFIG, yaml.safe_dump(tree, sort_keys=False))
    facts = read_facts(source)
    write_json(target / "run.json", {k: facts[k] for k in KEPT_FACTS if k in facts})
    # Those of several pieces of footage stay here: their names are of folders.
    if (source / CAMERA_FILE).exists():
        with atomic_path(target / CAMERA_FILE) as partial:
            copyfile(source / CAMERA_FILE, partial)


def card_values(folder: Path) -> dict[str, Any]:
    """What the model card says of a run."""
    tree = yaml.safe_load(read_text(folder / CONFIG, "the run's settings"))
    facts, model = read_facts(folder), tree.get("model", {})
    encoder = model.get("depth_model") or model.get("depth_encoder")
    rows = [
        ("image size", f"{model.get('width')} x {model.get('height')}"),
        ("DepthNet", encoder),
        ("method", tree.get("method")),
        ("motion in training", facts.get("poses", tree.get("data", {}).get("poses"))),
        ("steps", facts.get("steps")),
        ("training time", f"{facts['seconds'] / 60:.0f} min" if "seconds" in facts else None),
        ("egodepth", facts.get("egodepth")),
    ]
    if facts.get("refined"):
        rows.append(("refined", facts["refined"]))
    depth = read_facts(folder, "metrics.json").get("depth", {})
    names = {"abs_rel": "Abs Rel", "rmse": "RMSE", "a1": "delta 1"}
    own_unit = facts.get("unit", "a unit of the run's own")
    return {
        "title": folder.resolve().name,
        "facts": [(name, value) for name, value in rows if value not in (None, "")],
        "scores": [(text, f"{depth[name]:.3f}") for name, text in names.items() if name in depth],
        "unit": f"metres, by {facts['metric']}" if facts.get("metric") else own_unit,
        "camera": (folder / CAMERA_FILE).exists(),
    }  # fmt: skip
