"""What several losses share: checks of shapes, and functions whose gradients stay finite."""

from numbers import Real

from keras import ops


def logits_of(name, values):
    values = ops.cast(ops.convert_to_tensor(values), "float32")
    if len(values.shape) != 2:
        raise ValueError(f"{name} must have shape [batch, classes]. Received: shape={tuple(values.shape)}")
    return values


def pair_of(student_logits, teacher_logits):
    student, teacher = logits_of("student_logits", student_logits), logits_of("teacher_logits", teacher_logits)
    if None not in (student.shape[1], teacher.shape[1]) and student.shape[1] != teacher.shape[1]:
        raise ValueError(
            f"Student and teacher must tell the same classes apart. Received: {student.shape[1]} student logits and "
            f"{teacher.shape[1]} teacher logits per image."
        )
    return student, teacher


def check_temperature(temperature):
    """Raise ValueError if `temperature` is a plain number that is not positive and finite; return it otherwise."""
    if isinstance(temperature, Real) and not 0 < temperature < float("inf"):
        raise ValueError(f"temperature must be a positive number (typical: 2 to 8). Received: {temperature}")
    return temperature


def features_of(name, values):
    values = ops.cast(ops.convert_to_tensor(values), "float32")
    if len(values.shape) < 2:
        raise ValueError(f"{name} must have shape [batch, features] or more axes. Received: shape={values.shape}")
    return values


def check_batch(name, values):
    if values.shape[0] is not None and values.shape[0] < 2:
        raise ValueError(
            f"{name} compares the images of a batch with each other and needs at least 2. Received: a batch of "
            f"{values.shape[0]}."
        )


def root(values):
    """Square root with a gradient of 0, not infinity, at 0."""
    positive = values > 0
    return ops.where(positive, ops.sqrt(ops.where(positive, values, 1.0)), 0.0)
