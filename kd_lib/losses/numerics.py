"""What several losses share: checks of shapes, and functions whose gradients stay finite."""

from numbers import Real

import numpy as np
from keras import ops


def logits_of(name, values):
    """Return `values` as a float32 tensor [batch, classes]; `name` is what an error calls them.

    Raises:
        ValueError: another rank.
    """
    values = ops.cast(ops.convert_to_tensor(values), "float32")
    if len(values.shape) != 2:
        raise ValueError(f"{name} must have shape [batch, classes]. Received: shape={tuple(values.shape)}")
    return values


def pair_of(student_logits, teacher_logits):
    """Return both networks' logits, float32 [batch, classes], less each row's largest: no loss here sees the shift, and
    what is computed from them keeps its digits.

    Raises:
        ValueError: unequal class counts, or another rank.
    """
    student, teacher = logits_of("student_logits", student_logits), logits_of("teacher_logits", teacher_logits)
    if None not in (student.shape[1], teacher.shape[1]) and student.shape[1] != teacher.shape[1]:
        raise ValueError(
            f"Student and teacher must tell the same classes apart. Received: {student.shape[1]} student logits and "
            f"{teacher.shape[1]} teacher logits per image."
        )
    return tuple(one - ops.stop_gradient(ops.max(one, axis=1, keepdims=True)) for one in (student, teacher))


def check_temperature(temperature):
    """Raise ValueError if `temperature` is no single number that is positive and finite; return it otherwise.

    It may be a plain number, or an array, tensor or variable without axes; what is symbolic has no value to check.
    """
    number = isinstance(temperature, Real) and not isinstance(temperature, bool)
    if not (number or tuple(getattr(temperature, "shape", (None,))) == ()) or not 0 < _value(temperature) < float(
        "inf"
    ):
        raise ValueError(f"temperature must be a positive number (typical: 2 to 10). Received: {temperature!r}")
    return temperature


def _value(temperature):
    try:
        return np.asarray(temperature, np.float64).item()
    except Exception:  # a backend's own, of a tensor that has no value yet
        return 1.0


def features_of(name, values):
    """Return `values` as a float32 tensor [batch, ...]; `name` is what an error calls them.

    Raises:
        ValueError: no feature axis.
    """
    values = ops.cast(ops.convert_to_tensor(values), "float32")
    if len(values.shape) < 2:
        raise ValueError(f"{name} must have shape [batch, features] or more axes. Received: shape={values.shape}")
    return values


def check_batch(name, values):
    """Raise ValueError where the batch is known to hold less than 2 images; `name` is the loss."""
    if values.shape[0] is not None and values.shape[0] < 2:
        raise ValueError(
            f"{name} compares the images of a batch with each other and needs at least 2. Received: a batch of "
            f"{values.shape[0]}."
        )


def root(values):
    """Square root with a gradient of 0, not infinity, at 0."""
    positive = values > 0
    return ops.where(positive, ops.sqrt(ops.where(positive, values, 1.0)), 0.0)
