"""What a distiller and a training refuse, in words that say what to do."""

from numbers import Real

import keras
import numpy as np
from keras import layers


def check_alpha(alpha):
    """Return `alpha`, or raise ValueError where it does not lie in [0, 1]."""
    if not isinstance(alpha, Real) or not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha is the weight of the label loss and must lie in [0, 1]. Received: {alpha!r}")
    return alpha


def check_label_loss(loss):
    """Return `loss`, or raise ValueError where it is no keras.losses.Loss of logits."""
    if not isinstance(loss, keras.losses.Loss) or not loss.get_config().get("from_logits", True):
        raise ValueError(
            "label_loss must be a keras.losses.Loss that takes logits, such as "
            f"keras.losses.SparseCategoricalCrossentropy(from_logits=True). Received: {loss}"
        )
    return loss


def check_heads(student, teacher):
    """Raise ValueError where a network has no shape yet, does not answer logits, or the class counts differ."""
    for role, network in (("student", student), ("teacher", teacher)):
        if network is None:
            continue
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
        softmax = getattr(head, "activation", None) is keras.activations.softmax
        if softmax or type(head).__name__ == "Softmax":  # a layer or an operation of that name
            raise ValueError(
                f"The {role}'s last layer {head.name!r} is a softmax, but distillation needs logits: remove it "
                "(Dense(classes) without activation)."
            )
    if teacher is not None:
        check_classes(student, teacher.output_shape[-1])


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
    classes = model.output_shape[-1]
    for part, chosen in (("training", dataset.train), ("validation", dataset.validation)):
        if len(chosen) == 0:
            raise ValueError(f"The {part} split of {dataset.name} is empty; load it with a larger limit.")
        low, high = int(np.min(chosen.labels)), int(np.max(chosen.labels))
        if low < 0 or high >= classes:
            raise ValueError(
                f"Labels must lie in 0..{classes - 1} for {model.name}, of {classes} logits. Received {part} labels "
                f"from {low} to {high}."
            )
