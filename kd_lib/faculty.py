"""Who teaches: one network, several, or answers that were cached; and which features student and teacher compare.

A `Faculty` runs teachers, each once, in inference mode, and compares their answers and features with the student's. It
is not seen by Keras' tracking, so no teacher enters a student's weights or files. Left out: making
a cache (see `kd_lib.cache`).
"""

import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path

import keras
from keras import layers, ops

from kd_lib import losses
from kd_lib.checks import check_classes, check_heads
from kd_lib.keys import fingerprint, network_of, source_of
from kd_lib.views import fit_to

FEATURE_WEIGHTS = {"attention": 1000.0, "hint": 100.0, "rkd": 1.0}  # of the papers; rkd has its two inside


class Faculty:
    """The teachers of a student, and what is compared. It is no part of any Keras model.

    Args:
        student: keras.Model.
        teacher: None, a model, the path of a saved one, cached logits (with `.logits`), or a list of these.
        loss: as for `Distiller`.
        features: as for `Distiller`.
        weights: a number per teacher, or None for equal ones.

    Attributes:
        teacher: None, one teacher, or a tuple of them: models and cached logits.
        models: tuple of the teachers that are run in a step: all of them, or none if any is cached logits.
        cached: tuple of those that are cached logits.
        weights: each teacher's share; they add up to 1.
        terms: [(loss function, weight)].
        pairs: tuple of `Pair`.
        projectors: for each pair, a trainable layer or None.

    Raises:
        ValueError: not a teacher, unequal class counts, unknown losses or layers, weights that are not positive.
    """

    def __init__(self, student, teacher=None, *, loss="kd", features=(), weights=None):
        several = isinstance(teacher, list | tuple)
        if several and not teacher:
            raise ValueError("The list of teachers is empty. Pass at least one, or None.")
        chosen = teacher if several else () if teacher is None else (teacher,)
        found = tuple(one if _is_cached(one) else _model(one) for one in chosen)
        self.teacher = found if several else found[0] if found else None
        self.cached = tuple(one for one in found if _is_cached(one))
        self.models = () if self.cached else found
        self.weights = _shares(weights, len(found))
        check_heads(student, [one for one in found if not _is_cached(one)])
        for one in self.cached:
            check_classes(student, one.logits.shape[-1])
        self.terms, self.pairs, self.projectors = losses.terms(loss), read_pairs(features), []
        if found and not self.terms and not self.pairs:
            raise ValueError("Without a loss and without features there is nothing to learn from a teacher.")
        if self.pairs:
            if len(self.models) != 1:
                raise ValueError(f"features need one teacher that can be run. Received: {teacher!r}")
            self._teacher_extractor = extractor(self.models[0], [pair.teacher_layer for pair in self.pairs])
            self._student_extractor = extractor(student, [pair.student_layer for pair in self.pairs])
            both = (self._student_extractor, self._teacher_extractor)
            shapes = [[output.shape for output in model.outputs[1:]] for model in both]
            self.projectors = projectors(self.pairs, *shapes)

    def answer(self, images):
        """Return a dict with "teacher_logits", [batch, classes] (of several teachers [batch, teachers, classes]), and
        the list "teacher_features", each network having run once.
        """
        if self.pairs:
            logits, *features = self._teacher_extractor(fit_to(self.models[0], images), training=False)
        else:
            answers, features = [model(fit_to(model, images), training=False) for model in self.models], []
            logits = answers[0] if len(answers) == 1 else ops.stack(answers, axis=1)
        return {
            "teacher_logits": ops.stop_gradient(logits),
            "teacher_features": [ops.stop_gradient(one) for one in features],
        }

    def study(self, images):
        """Return the student's "logits" and its "features", projected where the teacher's are wider, in training."""
        logits, *features = self._student_extractor(images, training=True)
        joined = [one if join is None else join(one) for join, one in zip(self.projectors, features, strict=True)]
        return {"logits": logits, "features": joined}

    def losses(self, answer, targets, temperature):
        """Return the weighed losses, each float32 [batch] or scalar.

        Args:
            answer: the student's logits, or what `study` returned.
            targets: dict with "teacher_logits", and "label" and "teacher_features" where a loss needs them.
            temperature: scalar.
        """
        logits, wanted = logits_of(answer), targets["teacher_logits"]
        if len(wanted.shape) == 3:
            count = wanted.shape[1]
            if self.weights and count not in (None, len(self.weights)):
                raise ValueError(f"y brings the logits of {count} teachers; {len(self.weights)} have weights.")
            wanted = losses.average(wanted, temperature, self.weights or _shares(None, count))
        values = []
        for function, weight in self.terms:
            labels = [targets.get("label")] if losses.takes_labels(function) else []
            values.append(weight * function(logits, wanted, *labels, temperature))
        if self.pairs and targets.get("teacher_features"):
            for pair, *features in zip(self.pairs, answer["features"], targets["teacher_features"], strict=True):
                values.append(pair.weight * losses.FEATURE_LOSSES[pair.kind](*features))
        if not values:
            raise ValueError("loss=None compares features alone, and y brings none: there is nothing to distil.")
        return values


def logits_of(answer):
    """The logits in what a student answered: they themselves, or an entry beside its features."""
    return answer["logits"] if isinstance(answer, dict) else answer


def _is_cached(teacher):
    return hasattr(teacher, "logits") and not isinstance(teacher, keras.Model)


def _model(teacher):
    if isinstance(teacher, str | Path):
        if not Path(teacher).exists():
            raise ValueError(f"There is no teacher at {teacher}. Save one with model.save('teacher.keras').")
        from kd_lib import models, quantization  # noqa: F401  their layers are found once they are imported

        try:
            return keras.models.load_model(teacher, compile=False)
        except Exception as error:  # Keras and what it reads with raise many kinds
            raise ValueError(
                f"{teacher} is no whole model that Keras can load ({error}). A teacher's path is that of a file made "
                "by model.save('teacher.keras'); cached answers are opened with kd_lib.cache.CachedLogits.open, and an "
                "artifact's folder with kd_lib.replay.load_model."
            ) from error
    if isinstance(teacher, keras.Model):
        return teacher  # `check_heads` asks for its shape
    if not callable(teacher) or not hasattr(teacher, "output_shape"):
        raise ValueError(
            "A teacher is a keras.Model, the path of a saved one, cached logits, or a list of these. "
            f"Received: {teacher!r}"
        )
    return teacher


def _shares(weights, count):
    if weights is None:
        return [1.0 / max(count, 1)] * count
    if not isinstance(weights, Iterable) or isinstance(weights, str):
        raise ValueError(f"teacher_weights must be one positive number per teacher ({count}). Received: {weights!r}")
    weights = [float(weight) for weight in weights]
    if (count and len(weights) != count) or not all(0 < weight < math.inf for weight in weights):
        raise ValueError(f"teacher_weights must be one positive number per teacher ({count}). Received: {weights}")
    return [weight / sum(weights) for weight in weights]


def extractor(network, names):
    """Return a model of the same layers and weights, images -> [logits, output of each named layer].

    Raises:
        ValueError: a layer that the network lacks (the message lists those it has), or a network without a graph.
    """
    known = {layer.name: layer for layer in network.layers}
    for name in names:
        if name not in known:
            raise ValueError(f"{network.name} has no layer {name!r}. It has: {', '.join(known)}.")
    try:
        inputs = network.inputs if len(network.inputs) > 1 else network.inputs[0]
        return keras.Model(inputs, [network.outputs[0], *(known[name].output for name in names)])
    except (AttributeError, ValueError) as error:
        raise ValueError(
            f"The outputs of {', '.join(names)} cannot be reached in {network.name}: it is no Functional model, or one "
            "of these is a network of its own. Choose layers of the graph itself."
        ) from error


@dataclass(frozen=True)
class Pair:
    """Two layers to compare: by the loss called `kind`, weighed `weight`."""

    teacher_layer: str
    student_layer: str
    kind: str
    weight: float


def read_pairs(features):
    """Return a tuple of `Pair`s from (teacher layer, student layer, kind) or (…, kind, weight) tuples.

    Raises:
        ValueError: anything else, an unknown kind (the message lists the valid ones), a weight below 0 or not finite.
    """
    pairs = []
    for entry in features:
        if not isinstance(entry, list | tuple) or len(entry) not in (3, 4):
            raise ValueError(
                "features are tuples (teacher layer, student layer, kind) or (…, kind, weight). Received: "
                + repr(entry)
            )
        kind = entry[2]
        if kind not in losses.FEATURE_LOSSES:
            raise ValueError(f"Unknown feature loss {kind!r}. Choose one of: {', '.join(losses.FEATURE_LOSSES)}.")
        weight = entry[3] if len(entry) == 4 else FEATURE_WEIGHTS[kind]
        pairs.append(Pair(entry[0], entry[1], kind, losses.check_weight(kind, weight)))
    return tuple(pairs)


def projectors(pairs, student_shapes, teacher_shapes):
    """Return, for each pair, a trainable 1x1 projection of the student's features to the teacher's width, or None.

    Raises:
        ValueError: features that differ in more than their width, where the loss compares place by place.
    """
    made = []
    for index, (pair, ours, theirs) in enumerate(zip(pairs, student_shapes, teacher_shapes, strict=True)):
        if pair.kind != "rkd" and ours[1:-1] != theirs[1:-1]:
            raise ValueError(
                f"{pair.kind} compares {pair.student_layer!r} and {pair.teacher_layer!r} place by place, and no "
                f"projector can join them: the student's is {ours[1:]}, the teacher's {theirs[1:]}. Choose layers of "
                "the same height and width."
            )
        if pair.kind == "attention" and len(ours) != 4:
            layer = f"{pair.student_layer!r} gives {ours}"
            raise ValueError(f"attention compares maps [batch, height, width, channels]; {layer}.")
        if pair.kind == "hint" and ours[-1] != theirs[-1]:
            projector = layers.Dense(theirs[-1], name=f"projector_{index}")
            projector.build(ours)
            made.append(projector)
        else:
            made.append(None)
    return made


def describe_distiller(distiller):
    """Return what makes two distillers alike: settings, losses, features and teachers."""
    facts = {
        name: float(ops.convert_to_numpy(getattr(distiller, name)))
        for name in ("alpha", "temperature")
        if hasattr(distiller, name)
    }
    faculty = getattr(distiller, "faculty", None)  # a Distiller of a notebook's own may have none
    terms = faculty.terms if faculty else [(losses.kd, 1.0)]
    names = [[losses.name_of(function) or source_of(function), weight] for function, weight in terms]
    facts["loss"] = names[0][0] if len(names) == 1 and names[0][1] == 1 else names
    teacher = getattr(distiller, "teacher", None)
    if isinstance(teacher, tuple):
        facts["teacher"] = [fingerprint(one) for one in teacher]
        facts["teacher_network"] = [network_of(one) for one in teacher]
        facts["teacher_weights"] = faculty.weights
    else:
        facts["teacher"] = None if teacher is None else fingerprint(teacher)
        facts |= {} if teacher is None else {"teacher_network": network_of(teacher)}
    if faculty and faculty.pairs:
        facts["features"] = [astuple(pair) for pair in faculty.pairs]
    return facts
