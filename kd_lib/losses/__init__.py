"""Distillation losses: pure functions on logits and features, on `keras.ops` alone: they run on every Keras backend.

Logits are raw (never probabilities), all is computed in float32, and the result is one loss per example; `dist` and
`rkd` compare the examples of a batch with each other, so they return one number for all. Weighting, averaging and the
label loss belong to `Distiller`. Left out: anything that needs a trainable part.
"""

import inspect
import math
from numbers import Real

import keras

from kd_lib.losses.features import attention_transfer, hint, rkd
from kd_lib.losses.logits import average, dist, dkd, kd, standardized_kd  # noqa: F401
from kd_lib.losses.numerics import check_temperature  # noqa: F401  kd_lib.checks finds it here

LOSSES = {"kd": kd, "dkd": dkd, "dist": dist, "standardized_kd": standardized_kd}
FEATURE_LOSSES = {"attention": attention_transfer, "hint": hint, "rkd": rkd}


def get(name):
    """Return the loss function called `name`, or `name` itself if it is a function already.

    Raises:
        ValueError: for an unknown name; the message lists the valid ones.
    """
    if isinstance(name, keras.losses.Loss):
        raise ValueError(
            f"{name.name} is a loss of labels and predictions. A distillation loss is a name ({', '.join(LOSSES)}) or "
            "a function (student_logits, teacher_logits, temperature)."
        )
    if callable(name):
        return name
    if not isinstance(name, str) or name not in LOSSES:
        raise ValueError(f"Unknown distillation loss {name!r}. Choose one of: {', '.join(LOSSES)}, or pass a function.")
    return LOSSES[name]


def terms(loss):
    """Return [(function, weight)] for a name, a function, None (no loss on logits), or a dict of weights.

    Raises:
        ValueError: an unknown name, or a weight that is negative or not finite.
    """
    weights = list(loss.items()) if isinstance(loss, dict) else [] if loss is None else [(loss, 1.0)]
    return [(get(name), check_weight(name, weight)) for name, weight in weights]


def takes_labels(function):
    """Whether a loss wants to know the true classes: it has a parameter `labels`."""
    return "labels" in inspect.signature(function).parameters


def check_weight(name, weight):
    """Return `weight` as a float.

    Raises:
        ValueError: it is negative, not finite, or not a number.
    """
    if isinstance(weight, bool) or not isinstance(weight, Real) or not 0 <= weight < math.inf:
        raise ValueError(f"The weight of {name} must be a finite number, 0 or more. Received: {weight!r}")
    return float(weight)


def name_of(function):
    """Return the name under which `get` finds `function`, or None."""
    return next((name for name, known in LOSSES.items() if known is function), None)
