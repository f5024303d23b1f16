"""Trained things on disk: found by a key of everything that made them, written whole or not at all.

An artifact is a folder NAME-KEY with `config.json` (all that its key stands for), `architecture.json`, `history.json`
and, where weights are kept, `weights.npz` in float16. Folders are looked for in KD_HOME/artifacts first, then in those
that come with the project.
Left out: training (see `kd_lib.training`) and any format that could run code when it is read.
"""

import contextlib
import errno
import hashlib
import inspect
import json
import os
import re
import shutil
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np

from kd_lib.scale import REPOSITORY, home

SHIPPED = (REPOSITORY / "figures" / "run", Path(__file__).parent / "pretrained")
_LAYER_FACTS = (
    "filters kernel_size strides padding units activation rate pool_size scale offset axis height width".split()
)


def key_of(facts):
    """Return 12 hexadecimal digits that stand for `facts`, a JSON-able dict."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def describe_model(model):
    """Return what makes two untrained models alike: layers, settings and which are trainable; stable over versions."""
    facts = []
    for layer in model.layers:
        if hasattr(layer, "layers"):
            facts.append([_stable_name(layer), describe_model(layer)])
            continue
        config = layer.get_config()
        settings = {
            name: config[name] for name in _LAYER_FACTS if isinstance(config.get(name), (int, float, str, list, tuple))
        }
        shapes = [list(variable.shape) for variable in layer.weights]
        facts.append([type(layer).__name__, _stable_name(layer), settings, shapes, bool(layer.trainable)])
    return facts


def _stable_name(layer):
    """The layer's name without the number that Keras appends: it counts what was built before, in this process."""
    return re.sub(r"_\d+$", "", layer.name)


def fingerprint(model):
    """Return 12 hexadecimal digits of a model's weights, rounded to float16 as artifacts are."""
    digest = hashlib.sha256()
    for value in model.get_weights():
        digest.update(np.asarray(value, np.float16).tobytes())
    return digest.hexdigest()[:12]


def source_of(thing):
    """Return the source of a function, or of all methods of a class; its name where Python keeps no source.

    Classes defined in notebooks have no file, so a class is read method by method.
    """
    functions = (
        [value for value in vars(thing).values() if inspect.isfunction(value)] if inspect.isclass(thing) else [thing]
    )
    try:
        return "\n".join(inspect.getsource(function) for function in functions)
    except (OSError, TypeError):
        return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', type(thing).__name__)}"


@contextlib.contextmanager
def writing(path, size=0):
    """Yield a temporary path beside `path` and rename it to `path` on success; remove it on any error.

    Args:
        path: file to write; its folder is made if it is missing.
        size: bytes that will be written at most, if known: a disk with less room is refused before anything is written.

    Raises:
        OSError: the file could not be written (disk full, no permission); what stood at `path` is untouched.
    """
    path, temporary = Path(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(path.parent).free < size:
            raise OSError(errno.ENOSPC, "No space left on device")
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-", suffix=path.name)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error  # HDF5 adds a page of its own
        message = (
            f"Could not write {path}: {reason}. Free some space or check permissions, then run the same command again: "
            "what was finished before is kept."
        )
        raise OSError(error.errno or errno.EIO, message) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_json(path, value):
    """Write `value` as JSON, atomically."""
    with writing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def places():
    """Return the folders that artifacts are looked for in, first KD_HOME's own."""
    return (home() / "artifacts", *SHIPPED)


class Artifact:
    """The folder of one trained thing.

    Args:
        name: readable name, such as "student-0.25-kd-seed0".
        facts: JSON-able dict of everything that decides the result.
    """

    def __init__(self, name, facts):
        self.name, self.facts, self.key = name, facts, key_of(facts)
        self.folder = home() / "artifacts" / f"{name}-{self.key}"

    def find(self):
        """Return the folder that holds this artifact whole, or None."""
        for folder in (place / self.folder.name for place in places()):
            if (folder / "history.json").exists():
                return folder
        return None

    def load(self, model):
        """Load history, and weights into `model` if they are kept; return the history record, or None.

        A corrupt artifact is reported by a warning and treated as absent; one in KD_HOME is removed.
        """
        folder = self.find()
        if folder is None:
            return None
        try:
            record = json.loads((folder / "history.json").read_text(encoding="utf-8"))
            if record["weights"]:
                load_weights(model, folder / "weights.npz")
            return record
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            warnings.warn(f"The artifact {folder} is corrupt ({error}); it is made again.", stacklevel=3)
            if folder == self.folder:
                shutil.rmtree(folder, ignore_errors=True)
            return None

    def save(self, model, record):
        """Write config, architecture, weights (if `record["weights"]`) and history; the history last, as the seal."""
        write_json(self.folder / "config.json", self.facts)
        with writing(self.folder / "architecture.json") as temporary:
            temporary.write_text(model.to_json(), encoding="utf-8")
        if record["weights"]:
            save_weights(model, self.folder / "weights.npz")
        write_json(self.folder / "history.json", {**record, "fingerprint": fingerprint(model)})


def save_weights(model, path):
    """Write a model's weights as float16 arrays in an .npz file, in the order of `model.weights`.

    Raises:
        ValueError: a weight is not finite in float16.
    """
    arrays = {}
    for index, value in enumerate(model.get_weights()):
        with np.errstate(over="ignore"):  # reported below, by name
            arrays[f"{index:04d}"] = np.asarray(value, np.float16)
        if not np.all(np.isfinite(arrays[f"{index:04d}"])):
            raise ValueError(f"Weight {model.weights[index].path} of {model.name} is not finite in float16.")
    with writing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)


def load_weights(model, path):
    """Read into `model` what `save_weights` wrote.

    Raises:
        ValueError: another number of arrays, or another shape.
    """
    with np.load(path, allow_pickle=False) as arrays:
        values = [arrays[name].astype(np.float32) for name in sorted(arrays.files)]
    shapes, expected = [value.shape for value in values], [tuple(variable.shape) for variable in model.weights]
    if shapes != expected:
        raise ValueError(
            f"{path} holds {len(shapes)} arrays that do not fit the {len(expected)} weights of {model.name}"
        )
    model.set_weights(values)
