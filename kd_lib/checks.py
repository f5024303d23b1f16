"""What a distiller and a training refuse, in words that say what to do."""

import keras
import numpy as np


def check_alpha(alpha):
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha is the weight of the label loss and must lie in [0, 1]. Received: {alpha}")
    return alpha


def check_label_loss(loss):
    if not isinstance(loss, keras.losses.Loss) or not loss.get_config().get("from_logits", True):
        raise ValueError(
            "label_loss must be a keras.losses.Loss that takes logits, such as "
            f"keras.losses.SparseCategoricalCrossentropy(from_logits=True). Received: {loss}"
        )
    return loss


def check_heads(student, teacher):
    for role, network in (("student", student), ("teacher", teacher)):
        if network is None:
            continue
        if len(network.output_shape) != 2:
            raise ValueError(f"The {role} must answer logits [batch, classes]. Received: shape {network.output_shape}")
        head = network.layers[-1]
        while getattr(head, "layers", None):
            head = head.layers[-1]
        softmax = getattr(head, "activation", None) is keras.activations.softmax
        if softmax or isinstance(head, keras.layers.Softmax):
            raise ValueError(
                f"The {role}'s last layer {head.name!r} is a softmax, but distillation needs logits: remove it "
                "(Dense(classes) without activation)."
            )
    if teacher is not None:
        check_classes(student, teacher.output_shape[-1])


def check_classes(student, count):
    if student.output_shape[-1] != count:
        raise ValueError(
            f"Student and teacher must tell the same classes apart. Received: student with {student.output_shape[-1]} "
            f"classes, teacher with {count}."
        )


def check_labels(model, split, dataset):
    classes = model.output_shape[-1]
    for part, chosen in (("training", split), ("validation", dataset.validation)):
        if len(chosen) == 0:
            raise ValueError(f"The {part} split of {dataset.name} is empty; load it with a larger limit.")
        low, high = int(np.min(chosen.labels)), int(np.max(chosen.labels))
        if low < 0 or high >= classes:
            raise ValueError(
                f"Labels must lie in 0..{classes - 1} for {model.name}, of {classes} logits. Received {part} labels "
                f"from {low} to {high}."
            )
