"""Trained things on disk: found by a key of everything that made them, written whole or not at all.

An artifact is a folder NAME-KEY with `config.json` (all that its key stands for), `architecture.json`, `history.json`
and, where weights are kept, `weights.npz` in float16. Folders are looked for in KD_HOME/artifacts first, then in those
that come with the project.
Left out: training (see `kd_lib.training`) and any format that could run code when it is read.
"""

import json
import shutil
import warnings
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from kd_lib.files import is_damage, write_json, writing
from kd_lib.keys import describe_model, fingerprint, key_of, source_of  # noqa: F401  callers find them here
from kd_lib.scale import REPOSITORY, home

SHIPPED = (REPOSITORY / "figures" / "run", Path(__file__).parent / "pretrained")


def write_facts(path, facts):
    """Write the facts behind a key as JSON, one line each."""
    lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in facts.items()]
    with writing(path) as temporary:
        temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def places():
    """Return the folders that artifacts are looked for in, first KD_HOME's own."""
    return (home() / "artifacts", *SHIPPED)


def publish(folder, datasets, keys=(), *, to):
    """Copy what a committed run leaves for others: histories, and the weights of students.

    Args:
        folder: artifacts of the run, such as KD_HOME/artifacts.
        datasets: list of dicts with "name", "limit" and, where not all of their artifacts are meant, "artifacts": the
            pattern of those names. Artifacts of other data stay behind.
        keys: keys that result rows name. An artifact that has the name and the data of one of these and another key
            was made with settings that were given up: it stays behind, and goes if it is there.
        to: folder that receives them.

    Returns:
        int, bytes that `to` holds afterwards.
    """
    keys, found = set(keys), sorted(Path(folder).glob("*/history.json"))

    def known(place):
        """(name and data, key, data) of an artifact's folder."""
        name, _, key = place.name.rpartition("-")
        dataset = json.loads((place / "config.json").read_text(encoding="utf-8"))["dataset"]
        return json.dumps([name, dataset], sort_keys=True), key, dataset

    facts = {record.parent: known(record.parent) for record in found}
    settled = {name for name, key, _ in facts.values() if key in keys}
    for old in [record.parent for record in Path(to).glob("*/history.json")]:
        name, key, _ = known(old)
        if name in settled and key not in keys:
            shutil.rmtree(old)
    for source, (name, key, dataset) in facts.items():
        if name in settled and key not in keys:
            continue
        if not any(
            (dataset["name"], dataset["limit"]) == (wanted["name"], wanted["limit"])
            and fnmatchcase(source.name, wanted.get("artifacts", "*"))
            for wanted in datasets
        ):
            continue
        student = source.name.startswith("student-")
        for name in ("config.json", "history.json") + (("architecture.json", "weights.npz") if student else ()):
            if (source / name).exists() and not any((place / source.name).exists() for place in SHIPPED[1:]):
                with writing(Path(to) / source.name / name) as temporary:
                    shutil.copyfile(source / name, temporary)
    return sum(path.stat().st_size for path in Path(to).rglob("*") if path.is_file())


def trained_seconds(places):
    """Return the seconds that the networks in these folders were trained for, all together."""
    records = (record for place in places for record in Path(place).glob("*/history.json"))
    return sum(json.loads(record.read_text(encoding="utf-8"))["seconds"] for record in records)


class Artifact:
    """The folder of one trained thing.

    Args:
        name: readable name, such as "student-0.25-kd-seed0".
        facts: JSON-able dict of everything that decides the result.
    """

    def __init__(self, name, facts):
        if not name or {"/", "\\"} & set(name) or name.startswith("."):
            raise ValueError(
                f"An artifact's name becomes part of a folder's: no slashes, no dot first. Received: {name!r}"
            )
        self.name, self.facts, self.key = name, facts, key_of(facts)
        self.folder = home() / "artifacts" / f"{name}-{self.key}"

    def find(self):
        """Return the first folder that holds this artifact whole, or None. A shipped one may hold a history alone."""
        return next(self._folders(), None)

    def _folders(self):
        for folder in (place / self.folder.name for place in places()):
            if not (folder / "history.json").exists():
                continue
            if folder == self.folder or (folder / "weights.npz").exists() or not _keeps_weights(folder):
                yield folder

    def load(self, model):
        """Load history, and weights into `model` if they are kept; return the history record, or None.

        A corrupt artifact is reported by a warning and treated as absent; one in KD_HOME is removed.

        Raises:
            OSError or MemoryError: its files cannot be read just now; nothing is removed.
        """
        for folder in self._folders():
            try:
                record = json.loads((folder / "history.json").read_text(encoding="utf-8"))
                if not record["history"]["final_val_accuracy"] or not record["seconds"] >= 0:
                    raise ValueError("its history is not one")
                values = _read_weights(model, folder / "weights.npz") if record["weights"] else None
            except Exception as error:
                if not is_damage(error):
                    raise
                warnings.warn(f"The artifact {folder} is corrupt ({error}); it is made again.", stacklevel=3)
                if folder == self.folder:
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            if values is not None:
                model.set_weights(values)
            if folder == self.folder and not (folder / "config.json").exists():
                write_facts(folder / "config.json", self.facts)
            return record
        return None

    def save(self, model, record):
        """Write config, architecture, weights (if `record["weights"]`) and history; the history last, as the seal."""
        write_facts(self.folder / "config.json", self.facts)
        with writing(self.folder / "architecture.json") as temporary:
            temporary.write_text(model.to_json(), encoding="utf-8")
        if record["weights"]:
            save_weights(model, self.folder / "weights.npz")
        write_json(self.folder / "history.json", {**record, "fingerprint": fingerprint(model)})


def _keeps_weights(folder):
    try:
        return json.loads((folder / "history.json").read_text(encoding="utf-8"))["weights"]
    except (ValueError, KeyError, TypeError):
        return True


def _small(value):
    """An array as float16, or as it is where that cannot hold its numbers."""
    with np.errstate(over="ignore"):
        small = np.asarray(value, np.float16)
    return small if np.isfinite(small).all() else value


def save_weights(model, path):
    """Write a model's weights in an .npz file, in the order of `model.weights`: as float16 wherever the numbers fit.

    Raises:
        ValueError: a weight is not finite.
    """
    values = model.get_weights()
    for variable, value in zip(model.weights, values, strict=True):
        if not np.isfinite(value).all():
            raise ValueError(f"Weight {variable.path} of {model.name} is not finite.")
    with writing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **{f"{index:04d}": _small(value) for index, value in enumerate(values)})


def round_weights(model):
    """Round a model's weights as `save_weights` does."""
    model.set_weights([_small(value).astype(value.dtype) for value in model.get_weights()])


def load_weights(model, path):
    """Read into `model` what `save_weights` wrote.

    Raises:
        ValueError: another number of arrays, or another shape.
    """
    model.set_weights(_read_weights(model, path))


def _read_weights(model, path):
    """The arrays of a file, float32, if they fit the model."""
    with np.load(path, allow_pickle=False) as arrays:
        values = [arrays[name].astype(np.float32) for name in sorted(arrays.files)]
    shapes, expected = [value.shape for value in values], [tuple(variable.shape) for variable in model.weights]
    if shapes != expected:
        raise ValueError(
            f"{path} holds {len(shapes)} arrays that do not fit the {len(expected)} weights of {model.name}"
        )
    return values
