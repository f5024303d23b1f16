"""Distillation losses: pure functions on logits, on `keras.ops` alone, so that they run on every Keras backend.

Each takes raw logits (never probabilities), computes in float32 whatever it is given, and returns one loss per example;
weighting, averaging and the label loss belong to `Distiller`. Left out: anything that needs a trainable part.
"""

from numbers import Real

from keras import ops


def _logits(name, values):
    values = ops.cast(ops.convert_to_tensor(values), "float32")
    if len(values.shape) != 2:
        raise ValueError(f"{name} must have shape [batch, classes]. Received: shape={tuple(values.shape)}")
    return values


def _pair(student_logits, teacher_logits):
    student, teacher = _logits("student_logits", student_logits), _logits("teacher_logits", teacher_logits)
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


def kd(student_logits, teacher_logits, temperature=4.0):
    """Soft-target loss: T² · KL(teacher ‖ student), both softened by the temperature T.

    The factor T² keeps the gradient's size: with respect to the student's logits it is T·(q − p), where p and q are the
    softened probabilities of teacher and student, and tends to a constant as T grows.

    Args:
        student_logits: float [batch, classes].
        teacher_logits: float [batch, classes]. No gradient is stopped here; `Distiller` does that.
        temperature: positive number or scalar tensor.

    Returns:
        float32 [batch], in nats times T².

    Raises:
        ValueError: unequal class counts, wrong rank, or a temperature that is not positive.

    Source: Hinton, Vinyals and Dean 2015, arXiv 1503.02531, section 2.
    """
    check_temperature(temperature)
    student, teacher = _pair(student_logits, teacher_logits)
    temperature = ops.cast(temperature, "float32")
    # log_softmax, never log(softmax): finite for any finite logits.
    student_log = ops.log_softmax(student / temperature, axis=-1)
    teacher_log = ops.log_softmax(teacher / temperature, axis=-1)
    divergence = ops.sum(ops.exp(teacher_log) * (teacher_log - student_log), axis=-1)
    return temperature**2 * divergence


LOSSES = {"kd": kd}


def get(name):
    """Return the loss function called `name`, or `name` itself if it is a function already.

    Raises:
        ValueError: for an unknown name; the message lists the valid ones.
    """
    if callable(name):
        return name
    if name not in LOSSES:
        raise ValueError(f"Unknown distillation loss {name!r}. Choose one of: {', '.join(LOSSES)}, or pass a function.")
    return LOSSES[name]


def name_of(function):
    """Return the name under which `get` finds `function`, or None."""
    return next((name for name, known in LOSSES.items() if known is function), None)
