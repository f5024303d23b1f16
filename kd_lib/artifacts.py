"""Trained things on disk: found by a key of everything that made them, written whole or not at all.

An artifact is a folder NAME-KEY with `config.json` (all that its key stands for), `architecture.json`, `history.json`
and, where weights are kept, `weights.npz` in float16. Folders are looked for in KD_HOME/artifacts first, then in those
that come with the project.
Left out: training (see `kd_lib.training`) and any format that could run code when it is read.
"""

import contextlib
import errno
import functools
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
# Settings that enter a key only where they differ from what the course uses.
_LAYER_DEFAULTS = {
    "momentum": 0.9,
    "epsilon": 1e-3,
    "dilation_rate": (1, 1),
    "groups": 1,
    "negative_slope": 0.0,
    "max_value": None,
    "use_bias": True,
    "data_format": "channels_last",
    "interpolation": "bilinear",
}
_NESTED_DEFAULTS = {
    "kernel_initializer": "GlorotUniform",
    "bias_initializer": "Zeros",
    "depthwise_initializer": "GlorotUniform",
    "kernel_regularizer": None,
    "bias_regularizer": None,
    "depthwise_regularizer": None,
    "activity_regularizer": None,
}


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
        } | _unusual(layer, config)
        shapes = [list(variable.shape) for variable in layer.weights]
        facts.append([type(layer).__name__, _stable_name(layer), settings, shapes, bool(layer.trainable)])
    return facts + _wiring(model)


def _unusual(layer, config):
    """The settings of a layer that differ from `_LAYER_DEFAULTS`, and how it is regularised and initialised."""
    found = {}
    for name, usual in _LAYER_DEFAULTS.items():
        value = config.get(name, usual)
        value = tuple(value) if isinstance(value, list) else value
        if value != usual and value != (usual, usual):
            found[name] = value
    for name, usual in _NESTED_DEFAULTS.items():
        nested = config.get(name)
        if nested and nested["class_name"] != usual:
            found[name] = [nested["class_name"], {key: str(value) for key, value in nested["config"].items()}]
    policy = layer.dtype_policy.name
    if policy != "float32":
        found["dtype"] = policy
    return found


def _wiring(model):
    """Who reads whom, where a graph is not a chain: [[place of a layer, [places of those it reads]], ...]."""
    places = {id(layer): place for place, layer in enumerate(model.layers)}
    wires = []
    for place, layer in enumerate(model.layers):
        for node in layer._inbound_nodes:
            # A layer that is used in another model too has nodes there, which are none of our business.
            read = [places.get(id(tensor._keras_history.operation)) for tensor in node.input_tensors]
            if read and None not in read and read != [place - 1]:
                wires.append([place, read])
    return [["wiring", wires]] if wires else []


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
    """Return what decides how a function or a class works: its source, and the values that it was made with.

    A class is read member by member, because one that is defined in a notebook has no file, and with its parents, as
    far as they are not kd_lib's or Keras'. Where Python keeps no source, the name stands for it. Functions that are
    called by name are not followed.
    """
    if isinstance(thing, functools.partial):
        return f"partial {source_of(thing.func)} {thing.args!r} {sorted(thing.keywords.items())!r}"
    if inspect.isclass(thing):
        own = [kind for kind in thing.__mro__ if kind.__module__.split(".")[0] not in ("kd_lib", "keras", "builtins")]
        members = [(name, value) for kind in own for name, value in vars(kind).items()]
        return "\n".join(
            _member(name, value) for name, value in members if not name.startswith("__") or callable(value)
        )
    try:
        source = inspect.getsource(thing)
    except (OSError, TypeError):
        source = f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', type(thing).__name__)}"
    held = [cell.cell_contents for cell in getattr(thing, "__closure__", None) or ()]
    plain = [value for value in held if isinstance(value, (int, float, str, tuple, list, dict))]
    return source + (f"\n# with {plain!r}" if plain else "")


def _member(name, value):
    function = getattr(value, "__func__", None) or getattr(value, "fget", None) or value
    if inspect.isfunction(function):
        return source_of(function)
    return f"{name} = {value!r}" if isinstance(value, (int, float, str, tuple, list, dict)) else name


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
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # as any new file; mkstemp's are for their owner alone
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


def write_facts(path, facts):
    """Write the facts behind a key as JSON, one line each."""
    lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in facts.items()]
    with writing(path) as temporary:
        temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def places():
    """Return the folders that artifacts are looked for in, first KD_HOME's own."""
    return (home() / "artifacts", *SHIPPED)


def publish(folder, datasets, to=SHIPPED[0]):
    """Copy what a committed run leaves for others: histories, and the weights of students.

    Args:
        folder: artifacts of the run, such as KD_HOME/artifacts.
        datasets: list of dicts with "name" and "limit": artifacts of other data stay behind.
        to: folder that receives them.

    Returns:
        int, bytes that `to` holds afterwards.
    """
    for record in sorted(Path(folder).glob("*/history.json")):
        source = record.parent
        dataset = json.loads((source / "config.json").read_text(encoding="utf-8"))["dataset"]
        if {"name": dataset["name"], "limit": dataset["limit"]} not in datasets:
            continue
        student = source.name.startswith("student-")
        for name in ("config.json", "history.json") + (("architecture.json", "weights.npz") if student else ()):
            if (source / name).exists() and not (Path(to).parent / "pretrained" / source.name).exists():
                with writing(Path(to) / source.name / name) as temporary:
                    shutil.copyfile(source / name, temporary)
    return sum(path.stat().st_size for path in Path(to).rglob("*") if path.is_file())


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
        """Return the folder that holds this artifact whole, or None. A shipped folder may hold a history alone."""
        for folder in (place / self.folder.name for place in places()):
            if not (folder / "history.json").exists():
                continue
            if folder == self.folder or (folder / "weights.npz").exists() or not _keeps_weights(folder):
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
        write_facts(self.folder / "config.json", self.facts)
        with writing(self.folder / "architecture.json") as temporary:
            temporary.write_text(model.to_json(), encoding="utf-8")
        if record["weights"]:
            save_weights(model, self.folder / "weights.npz")
        write_json(self.folder / "history.json", {**record, "fingerprint": fingerprint(model)})


def _keeps_weights(folder):
    return json.loads((folder / "history.json").read_text(encoding="utf-8")).get("weights", True)


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


def round_weights(model):
    """Round a model's weights to float16, as `save_weights` does; where one does not fit, all stay as they are."""
    with np.errstate(over="ignore"):
        rounded = [np.asarray(value, np.float16).astype(value.dtype) for value in model.get_weights()]
    if all(np.isfinite(value).all() for value in rounded):
        model.set_weights(rounded)


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
