"""Trained networks from their folders alone: load one, or repeat the training that its `config.json` describes.

Works for everything that `fit_or_load` made from kd_lib's own classes. Left out: distillers defined in notebooks, whose
source is noted in `config.json` but not run.
"""

import json
from pathlib import Path

import keras

from kd_lib import artifacts, losses, models, quantization  # noqa: F401  their layers are needed to read an architecture
from kd_lib.builders import NAMES
from kd_lib.datasets import load_dataset
from kd_lib.distiller import Distiller
from kd_lib.training import Config, fit_or_load, seeded


def load_model(folder):
    """Return the trained network of an artifact's folder.

    Args:
        folder: holds architecture.json and weights.npz.

    Returns:
        keras.Model, images 0..255 in, logits out.

    Raises:
        FileNotFoundError: the folder is no artifact, or keeps no weights.
        ValueError: the weights do not fit.
    """
    model = _architecture(folder)
    artifacts.load_weights(model, Path(folder) / "weights.npz")
    return model


def replay(folder):
    """Repeat the training of an artifact: same data, network, settings and teacher; loaded if it is at hand already.

    Args:
        folder: holds config.json and architecture.json.

    Returns:
        Run.

    Raises:
        FileNotFoundError: the folder is no artifact, or its teacher is not at hand.
        ValueError: the distiller was defined in a notebook, or training started from weights that are not kept.
    """
    folder = Path(folder)
    facts = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    settings = dict(facts.get("distiller", {}))
    loss = settings.get("loss", "kd")
    settings["loss"] = loss if isinstance(loss, str) else dict(loss) or None
    names = {loss} if isinstance(loss, str) else {name for name, _ in loss}
    if "source" in facts or names - set(losses.LOSSES):
        raise ValueError(f"{folder} was trained by a class or a loss that is not kd_lib's; run its notebook instead.")
    if facts["dataset"]["name"] not in NAMES:
        raise ValueError(f"{folder} learned from a folder of images; load that, and call fit_or_load as it was called.")
    if facts["config"]["start"] != "random":
        raise ValueError(
            f"{folder} started from other weights ({facts['config']['start']}); run notebook 05, which makes them."
        )
    data = {name: facts["dataset"][name] for name in ("name", "image_size", "crop", "seed", "limit")}
    dataset = load_dataset(data.pop("name"), **data)
    if json.dumps(dataset.fingerprint, sort_keys=True) != json.dumps(facts["dataset"], sort_keys=True):
        raise ValueError(
            f"{folder} learned from other images of {dataset.name} than load_dataset gives, such as a part of them; "
            "run the notebook that made it instead."
        )
    config = Config(**facts["config"])
    network = seeded(config.seed, _architecture, folder)
    if "distiller" in facts:
        teacher, _ = settings.pop("teacher"), settings.pop("teacher_network", None)
        several = isinstance(teacher, list)
        teachers = [_teacher(one, folder) for one in (teacher if several else [teacher])]
        network = Distiller(network, teachers if several else teachers[0], **settings)
    return fit_or_load(folder.name.rpartition("-")[0], network, dataset, config)


def _architecture(folder):
    return keras.models.model_from_json((Path(folder) / "architecture.json").read_text(encoding="utf-8"))


def _teacher(fingerprint, folder):
    """Find the teacher by its weights' fingerprint, beside the artifact or where artifacts are kept."""
    if fingerprint is None:
        return None
    for place in (folder.parent, *artifacts.places()):
        for record in place.glob("*/history.json"):
            known = json.loads(record.read_text(encoding="utf-8")).get("fingerprint") == fingerprint
            if known and (record.parent / "weights.npz").exists():
                return load_model(record.parent)
    raise FileNotFoundError(f"The teacher of {folder} (weights {fingerprint}) is not at hand; train or fetch it first.")
