"""What a trained thing is known by: twelve digits that stand for everything that made it.

A key covers network, settings, data, teacher and the source of classes and losses of one's own, with the functions,
classes and numbers of the same module or notebook that they name. Left out: initial weights, which a seed stands for,
and what they take from other modules.
"""

import functools
import hashlib
import inspect
import json
import re

import numpy as np

_LAYER_FACTS = (
    "filters kernel_size strides padding units activation rate pool_size scale offset axis height width floor".split()
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
    "threshold": 0.0,
}
_NESTED_DEFAULTS = {
    "kernel_initializer": "GlorotUniform",
    "bias_initializer": "Zeros",
    "depthwise_initializer": "GlorotUniform",
    "kernel_regularizer": None,
    "bias_regularizer": None,
    "depthwise_regularizer": None,
    "activity_regularizer": None,
    "gamma_regularizer": None,
    "beta_regularizer": None,
    "kernel_constraint": None,
    "bias_constraint": None,
    "depthwise_constraint": None,
    "gamma_constraint": None,
    "beta_constraint": None,
}
# Settings of a training that came later, with what holds where they are not named: they count where they differ.
LATER = {"mixup": 0.0, "drawn": 0, "decay": "cosine"}
# Layers of which the settings above say all; of Keras' others, every setting counts.
_WELL_KNOWN = set(
    "InputLayer Conv2D DepthwiseConv2D Dense BatchNormalization ReLU Activation Softmax Concatenate Add Flatten "
    "Dropout MaxPooling2D AveragePooling2D GlobalAveragePooling2D GlobalMaxPooling2D ZeroPadding2D Rescaling "
    "Resizing".split()
)


def key_of(facts):
    """Return 12 hexadecimal digits that stand for `facts`, a JSON-able dict."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def describe_model(model, *, learning=True):
    """Return what makes two untrained models alike: layers, settings and (if `learning`) which are trainable; stable
    over versions."""
    facts = []
    for layer in model.layers:
        if hasattr(layer, "layers"):
            facts.append([_stable_name(layer), describe_model(layer, learning=learning)])
            continue
        config = layer.get_config()
        names = (*_LAYER_FACTS, *_own_settings(type(layer)))
        settings = {
            name: config[name] for name in names if isinstance(config.get(name), (int, float, str, list, tuple))
        }
        settings |= _unusual(layer, config) | _of_others(layer, config)
        shapes = [list(variable.shape) for variable in layer.weights]
        facts.append([type(layer).__name__, _stable_name(layer), settings, shapes])
        facts[-1] += [bool(layer.trainable)] if learning else []
    return facts + _operations(model) + _wiring(model)


def _of_others(layer, config):
    """All settings of a Keras layer that the course does not use, and the source of a layer that is not Keras'."""
    home = type(layer).__module__.split(".")[0]
    if home == "keras":
        plain = {} if type(layer).__name__ in _WELL_KNOWN else config
        skipped = ("name", "dtype", "trainable")
        return {name: json.loads(json.dumps(plain[name], default=str)) for name in plain if name not in skipped}
    return {} if home == "kd_lib" else {"source": source_of(type(layer))}


def _operations(model):
    """What a graph computes outside layers: [[name, numbers that it was given], ...]."""
    found = []
    for operation in getattr(model, "operations", ()):
        if not hasattr(operation, "get_weights"):
            given = [[*node.arguments.args, node.arguments.kwargs] for node in operation._inbound_nodes]
            numbers = re.sub(r"<KerasTensor[^>]*>", "tensor", repr(given))
            found.append([type(operation).__name__, numbers])
    return [["operations", found]] if found else []


def _own_settings(kind):
    """Names of what a layer that is not Keras' own is made with."""
    owner = next(parent for parent in kind.__mro__ if "__init__" in vars(parent))
    if owner.__module__.split(".")[0] == "keras":
        return set()
    return set(inspect.signature(owner.__init__).parameters) - {"name", "dtype", "trainable"}


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
    # A layer that is used in another model too has nodes there, which are none of our business.
    own = {id(node) for nodes in getattr(model, "_nodes_by_depth", {}).values() for node in nodes}
    wires = []
    for place, layer in enumerate(model.layers):
        for node in (node for node in layer._inbound_nodes if id(node) in own):
            read = [places.get(id(tensor._keras_history.operation)) for tensor in node.input_tensors]
            if read and None not in read and read != [place - 1]:
                wires.append([place, read])
    return [["wiring", wires]] if wires else []


def _stable_name(layer):
    """The layer's name without the number that Keras appends: it counts what was built before, in this process."""
    return re.sub(r"_\d+$", "", layer.name)


def fingerprint(model):
    """Return 12 hexadecimal digits of a model's weights, rounded to float16 as artifacts are.

    Cached logits have the fingerprint of the teacher that gave them.
    """
    if not hasattr(model, "get_weights"):
        return model.teacher_fingerprint
    digest = hashlib.sha256()
    for value in model.get_weights():
        digest.update(np.asarray(value, np.float16).tobytes())
    return digest.hexdigest()[:12]


def network_of(teacher):
    """Return 12 hexadecimal digits of what a teacher does with its weights: two may have the same weights and answer
    differently, as one that scales its images does.

    Cached logits have that of the teacher that gave them; None for a teacher whose layers nobody can list.
    """
    if not hasattr(teacher, "get_weights"):
        return getattr(teacher, "teacher_network", None)
    home = type(teacher).__module__.split(".")[0]
    own = [] if home in ("keras", "kd_lib") else [source_of(type(teacher))]
    return key_of(describe_model(teacher, learning=False) + own)


def source_of(thing, seen=None):
    """Return what decides how a function or a class works: its source, and the values that it was made with.

    A class is read member by member, because one that is defined in a notebook has no file, and with its parents, as
    far as they are not kd_lib's or Keras'. Where Python keeps no source, the name stands for it. What a function names
    of its own module, and that is not kd_lib's or Keras', follows it; `seen` holds what is there already.
    """
    seen = {id(thing)} if seen is None else seen
    if isinstance(thing, functools.partial):
        return f"partial {source_of(thing.func, seen)} {thing.args!r} {sorted(thing.keywords.items())!r}"
    if inspect.isclass(thing):
        own = [kind for kind in thing.__mro__ if kind.__module__.split(".")[0] not in ("kd_lib", "keras", "builtins")]
        members = [(name, value) for kind in own for name, value in vars(kind).items()]
        return "\n".join(
            _member(name, value, seen) for name, value in members if not name.startswith("__") or callable(value)
        )
    try:
        source = inspect.getsource(thing)
    except (OSError, TypeError):
        source = f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', type(thing).__name__)}"
    held = [cell.cell_contents for cell in getattr(thing, "__closure__", None) or ()]
    plain = [value for value in held if isinstance(value, (int, float, str, tuple, list, dict))]
    return "\n".join([source + (f"\n# with {plain!r}" if plain else ""), *_named_in(thing, seen)])


def _named_in(function, seen):
    """The source of the functions and classes, and the values of the numbers, that a function names of its module."""
    home = getattr(function, "__module__", None)
    codes = (
        [function.__code__] if inspect.isfunction(function) and home.split(".")[0] not in ("kd_lib", "keras") else []
    )
    for code in codes:  # grows: a function may hold others
        codes += [constant for constant in code.co_consts if inspect.iscode(constant)]
    for name in sorted({name for code in codes for name in code.co_names}):
        value = function.__globals__.get(name)
        if isinstance(value, (int, float, str)):
            yield f"{name} = {value!r}"
        elif (
            (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__ == home and id(value) not in seen
        ):
            seen.add(id(value))
            yield source_of(value, seen)


def _member(name, value, seen):
    function = getattr(value, "__func__", None) or getattr(value, "fget", None) or value
    if inspect.isfunction(function):
        return source_of(function, seen)
    return f"{name} = {value!r}" if isinstance(value, (int, float, str, tuple, list, dict)) else name
