"""What a distiller and a training refuse, in words that say what to do."""

import warnings
from numbers import Real

import keras
import numpy as np
from keras import layers, ops

from kd_lib.losses import check_temperature
from kd_lib.report import are_probabilities

_NOISE_SIDE = 32  # pixels of a probe where a network takes images of any size


def as_number(name, value):
    """Return a plain number, or the one in an array, tensor or variable without axes, as a float.

    Raises:
        ValueError: it is anything else; `name` is what the message calls it.
    """
    try:
        if (isinstance(value, Real) and not isinstance(value, bool)) or getattr(value, "shape", None) == ():
            return float(value)
    except (TypeError, ValueError, NotImplementedError):  # what is symbolic has no value yet
        pass
    raise ValueError(f"{name} must be one number. Received: {value!r}")


def as_alpha(value):
    """Return alpha as a float, or raise ValueError where it is no number in [0, 1]."""
    alpha = as_number("alpha", value)
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha is the weight of the label loss and must lie in [0, 1]. Received: {alpha!r}")
    return alpha


def as_temperature(value):
    """Return the temperature as a float, or raise ValueError where it is no positive, finite number."""
    return check_temperature(as_number("temperature", value))


def check_label_loss(loss):
    """Return `loss`, or raise ValueError where it is no keras.losses.Loss of logits."""
    if not isinstance(loss, keras.losses.Loss) or not loss.get_config().get("from_logits", True):
        raise ValueError(
            "label_loss must be a keras.losses.Loss that takes logits, such as "
            f"keras.losses.SparseCategoricalCrossentropy(from_logits=True). Received: {loss}"
        )
    return loss


def check_heads(student, teachers=()):
    """Raise ValueError where a network has no shape yet, does not answer logits, the class counts differ, or a teacher
    has weights that the student would train."""
    for role, network in (("student", student), *(("teacher", one) for one in teachers)):
        try:
            shape = network.output_shape
        except AttributeError as error:
            raise ValueError(
                f"The {role} {network.name!r} has no output shape yet: use a Functional model, or a Sequential one "
                "that begins with keras.Input."
            ) from error
        if len(shape) != 2:
            raise ValueError(f"The {role} must answer logits [batch, classes]. Received: shape {shape}")
        head = _head(network)
        kinds = (getattr(getattr(head, "activation", None), "__name__", ""), type(head).__name__)
        for kind in ("softmax", "sigmoid"):  # of Keras or of TensorFlow; a layer, an operation or an activation
            if kind in (name.lower() for name in kinds):
                raise ValueError(
                    f"The {role}'s last layer {head.name!r} is a {kind}, but distillation needs logits: remove it "
                    "(Dense(classes) without activation)."
                )
        if _answers_probabilities(network):
            raise ValueError(
                f"The {role} {network.name!r} answers probabilities: whatever the image, none is below 0 and they add "
                "up to 1. Distillation needs logits: take the softmax out of the network's end."
            )
        if role == "teacher":
            check_classes(student, network.output_shape[-1])
            _check_apart(student, network)


def _check_apart(student, teacher):
    learning = {id(variable) for variable in student.weights}
    shared = [variable.path for variable in teacher.weights if id(variable) in learning]
    if shared:
        raise ValueError(
            f"Student and teacher share weights, such as {shared[0]}: the teacher would change with every step. Give "
            "the student weights of its own (keras.models.clone_model)."
        )


def _answers_probabilities(network):
    """Whether a network's answers to four images of noise are probabilities; False where it cannot be asked that way.

    It runs in inference mode: no statistics and no random state change. Log-probabilities are logits like others.
    """
    inputs = getattr(network, "inputs", None) or ()
    if len(inputs) != 1:
        return False
    try:
        shape = [_NOISE_SIDE if size is None else size for size in inputs[0].shape[1:]]
        noise = np.random.default_rng(0).uniform(0, 255, (4, *shape))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras' on inputs that have a name
            answers = network(ops.cast(noise, inputs[0].dtype), training=False)
        return are_probabilities(ops.convert_to_numpy(ops.cast(answers, "float32")))
    except Exception:  # what such images say nothing to may be a teacher all the same
        return False


def _head(network):
    """The last layer or operation of a network that computes anything; that of the last network inside it."""
    outputs = getattr(network, "outputs", None)
    head = outputs[0]._keras_history.operation if outputs else network.layers[-1]
    while True:
        if getattr(head, "layers", None):
            return _head(head)
        linear = isinstance(head, layers.Activation) and head.activation is keras.activations.linear
        if not (linear or isinstance(head, layers.Dropout | layers.Reshape | layers.Identity)) or not outputs:
            return head
        head = head.input._keras_history.operation


def check_classes(student, count):
    """Raise ValueError where the student does not answer `count` classes."""
    if student.output_shape[-1] != count:
        raise ValueError(
            f"Student and teacher must tell the same classes apart. Received: student with {student.output_shape[-1]} "
            f"classes, teacher with {count}."
        )


def check_one_device():
    """Raise ValueError where a strategy for several devices is in force: `fit_or_load` has batches for one."""
    spread = keras.distribution.distribution() is not None and len(keras.distribution.list_devices()) > 1
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        spread = tf.distribute.get_strategy().num_replicas_in_sync > 1
    if spread:
        raise ValueError(
            "fit_or_load trains on one device. On several, call Distiller.fit on arrays, with numbers of images and a "
            "batch_size that the devices divide."
        )


def check_labels(model, dataset):
    """Raise ValueError where a split that a training reads is empty or holds labels outside the model's classes."""
    for part, chosen in (("training", dataset.train), ("validation", dataset.validation)):
        if len(chosen) == 0:
            raise ValueError(f"The {part} split of {dataset.name} is empty; load it with a larger limit.")
        _check_range(model, chosen.labels, part)


def check_given_labels(distiller, y, part):
    """Raise ValueError where `y`, or its "label", is an array or tensor of class numbers, one of which is no class, or
    one-hot, and the label loss expects class numbers; or where its "teacher_logits" is an array that holds
    probabilities, or what is not finite.

    Let pass: other labels that are no class numbers, those of a single logit, the label loss's `ignore_class`, and what
    is no array.
    """
    labels, answers = (y.get("label"), y.get("teacher_logits")) if isinstance(y, dict) else (y, None)
    if isinstance(answers, np.ndarray) and answers.size:
        _check_answers(answers, part)
    if not hasattr(labels, "shape") or not hasattr(labels, "dtype") or distiller.student.output_shape[-1] == 1:
        return
    labels = ops.convert_to_numpy(labels)
    sparse = isinstance(getattr(distiller, "label_loss", None), keras.losses.SparseCategoricalCrossentropy)
    if sparse and labels.shape[1:] == (distiller.student.output_shape[-1],):
        raise ValueError(
            f"The {part} labels look one-hot: shape {labels.shape}. Pass class numbers, labels.argmax(axis=1), or "
            "compile(label_loss=keras.losses.CategoricalCrossentropy(from_logits=True))."
        )
    if labels.dtype.kind == "f" and np.array_equal(labels, np.round(labels)):
        labels = labels.astype(np.int64)
    if labels.dtype.kind in "iu" and labels.shape[1:] in ((), (1,)):
        ignored = getattr(getattr(distiller, "label_loss", None), "ignore_class", None)
        labels = labels[labels != ignored]
        if labels.size:
            _check_range(distiller.student, labels, part)


def _check_answers(answers, part):
    if not np.isfinite(answers).all():
        raise ValueError(f"The {part} teacher_logits hold numbers that are not finite.")
    if answers.ndim == 2 and are_probabilities(answers.astype(np.float32)):
        raise ValueError(
            f"The {part} teacher_logits are probabilities: none is below 0 and they add up to 1. Distillation needs "
            "logits: what the teacher answers without softmax."
        )


def _check_range(model, labels, part):
    classes = model.output_shape[-1]
    low, high = int(np.min(labels)), int(np.max(labels))
    if low < 0 or high >= classes:
        raise ValueError(
            f"Labels must lie in 0..{classes - 1} for {model.name}, of {classes} logits. Received {part} labels from "
            f"{low} to {high}."
        )
