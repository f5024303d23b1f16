"""How good a classifier is, and whether a difference between two is real.

`evaluate` runs a model once over a split and keeps its logits; everything else (accuracy, recall, calibration,
agreement with a teacher) is computed from them when asked for. `compare` puts an interval on the difference of two
methods. `count_macs` and `count_params` measure size. Left out: speed (a matter of the machine), test-time
augmentation, and tasks other than single-label classification.
"""

import functools
import math
from pathlib import Path

import numpy as np

from kd_lib.counting import count_macs, count_params  # noqa: F401  their home for callers is here
from kd_lib.report import Report, are_probabilities


def _fitted(model, images):
    """The images at the network's own input size, as training showed them."""
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or None in shape[1:3] or shape[1:3] == images.shape[1:3]:
        return images
    from keras import ops

    from kd_lib.views import fit_to

    return ops.convert_to_numpy(fit_to(model, images))


class _File:
    """A .tflite file as a network among others."""

    def __init__(self, path):
        from kd_lib import litert

        self.name, classifier = Path(path).name, litert.Classifier(path)
        self.input_shape, self.predict_on_batch = (None, *classifier.image_size, 3), classifier.predict


def _logits(model, images, batch_size, role):
    """Logits float32 [n, K] of a model, a .tflite path or an array of logits; refuses what is not logits."""
    if isinstance(model, np.ndarray):
        logits = model
    else:
        predict = getattr(model, "predict_on_batch", None)
        if isinstance(model, (str, Path)):
            if Path(model).suffix != ".tflite":
                raise ValueError(f"a path must end in .tflite, got {str(model)!r}; load other models with Keras first")
            if not Path(model).is_file():
                raise FileNotFoundError(f"no {role} file at {model}")
            model = _File(model)
            predict = model.predict_on_batch
        if predict is None:
            raise ValueError(f"the {role} must be a Keras model or a .tflite path, got {type(model).__name__}")
        if not isinstance(model, _File):
            from kd_lib import graphs

            if graphs.eager(len(images) / batch_size):
                predict = functools.partial(model, training=False)
        parts = []
        for start in range(0, len(images), batch_size):
            batch = _fitted(model, np.asarray(images[start : start + batch_size]))
            # The last batch is filled up: one shape means one traced graph. In inference mode rows do not mix.
            missing = batch_size - len(batch) if parts else 0
            padded = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)]) if missing else batch
            parts.append(np.asarray(predict(padded))[: len(batch)])
        logits = np.concatenate(parts)
    logits = logits.astype(np.float32)
    if logits.ndim != 2 or len(logits) != len(images):
        raise ValueError(f"the {role}'s logits must have shape [{len(images)}, classes], got {logits.shape}")
    if not np.isfinite(logits).all():
        raise ValueError(f"the {role}'s logits hold nan or infinity: its training diverged; lower the learning rate")
    if are_probabilities(logits):
        raise ValueError(
            f"the {role} returns probabilities (rows sum to 1), logits are expected: "
            "take the softmax out of its last layer (activation=None)"
        )
    return logits


def evaluate(model_or_tflite_path, split, *, teacher=None, batch_size=512):
    """Run a model over a split in inference mode; no variable of any model changes.

    Args:
        model_or_tflite_path: a Keras model (images 0..255 in, logits out) or the path of a .tflite file.
        split: what has images [n, h, w, 3], labels [n], ids [n] and a length, such as `dataset.test`.
        teacher: None, or a model, a .tflite path, or logits float [n, K]: fills `agreement`.
        batch_size: images per step; affects speed and memory only.

    Returns:
        A `Report`.

    Raises:
        ValueError: the split is empty, labels are out of range, class counts differ, or a model does not give logits.
        FileNotFoundError: no file at a given path.
    """
    if len(split) == 0:
        raise ValueError("the split is empty: there is nothing to evaluate; raise limit= or choose another split")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    labels = np.asarray(split.labels).astype(np.int64)
    logits = _logits(model_or_tflite_path, split.images, batch_size, "model")
    classes = logits.shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"labels must lie in 0..{classes - 1} for a model of {classes} classes, "
            f"got {labels.min()}..{labels.max()}; build the model with the dataset's number of classes"
        )
    teacher_predictions = None
    if teacher is not None:
        teacher_logits = _logits(teacher, split.images, batch_size, "teacher")
        if teacher_logits.shape[1] != classes:
            raise ValueError(f"the model has {classes} classes but the teacher has {teacher_logits.shape[1]}")
        teacher_predictions = teacher_logits.argmax(axis=1)
    groups = getattr(split, "groups", None)
    groups = None if groups is None else np.asarray(groups)
    return Report(logits, labels, np.asarray(split.ids), teacher_predictions, groups)


def fit_temperature(report):
    """Find the temperature that makes confidences honest: the one of smallest negative log likelihood.

    Args:
        report: `Report` of validation images, never of the test images that the result is shown on.

    Returns:
        float, between 0.05 and 20; above 1 the model was too sure of itself.

    Source: Guo et al. 2017, arXiv 1706.04599, section 4.2.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature):
        return report.at_temperature(math.exp(log_temperature)).nll

    return math.exp(minimize_scalar(loss, bounds=(math.log(0.05), math.log(20)), method="bounded").x)


def compare(reports_a, reports_b, *, level=0.95, resamples=10_000, seed=0):
    """Difference of two methods on the same test images, with a paired bootstrap interval.

    Seeds are averaged per image, then test images are drawn again with replacement: all images of a physical sign at
    once, where the reports know them, because they fail together. (GTSRB's test does not tell: there each image counts
    as its own sign, and the interval is narrower than the truth.) The interval says how far the difference of these
    trained models depends on the choice of test images; the spread over seeds is reported beside it in the results, not
    in it. Swapping the arguments flips every sign.

    Args:
        reports_a: a `Report`, or one per seed; their split must be the same and in the same order.
        reports_b: likewise; the number of seeds may differ.
        level: confidence level between 0 and 1.
        resamples: number of bootstrap draws.
        seed: of the draws.

    Returns:
        dict: "difference" (accuracy of a minus b, in points), "low", "high" (its interval), "errors" (mean errors of a
        minus b), "errors_low", "errors_high", "excludes_zero" (bool), "accuracy_a", "accuracy_b" (percent),
        "errors_a", "errors_b" (means), "seeds_a", "seeds_b", "test_size", "level", "resamples".

    Raises:
        ValueError: no report, reports of different images, or level out of range.
    """
    groups = [[reports] if isinstance(reports, Report) else list(reports) for reports in (reports_a, reports_b)]
    if not all(groups) or not 0 < level < 1:
        raise ValueError(f"need a report on each side and 0 < level < 1; got {[len(g) for g in groups]}, level {level}")
    first = groups[0][0]
    for report in groups[0] + groups[1]:
        if not (np.array_equal(report.ids, first.ids) and np.array_equal(report.labels, first.labels)):
            raise ValueError("the reports are of different test images; evaluate every model on the same split")
    size, seeds_a, seeds_b = len(first.labels), len(groups[0]), len(groups[1])
    right_a, right_b = (np.sum([report.right for report in group], axis=0) for group in groups)
    scores = right_a * seeds_b - right_b * seeds_a  # per image, in units of 1 / (seeds_a * seeds_b); exact integers
    sign = -1 if scores.sum() < 0 else 1  # draw for the better side, so that swapping gives the mirrored interval
    signs = np.arange(size) if first.groups is None else np.unique(first.groups, return_inverse=True)[1]
    images = np.bincount(signs)
    scores = np.bincount(signs, sign * scores).astype(int)
    # A sign has few kinds of score and size, and a resample's mean depends only on how often each kind was drawn:
    # drawing these counts is the bootstrap itself, exactly, without 10,000 x n random indices.
    kinds, counts = np.unique(np.stack([scores, images], axis=1), axis=0, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(images), counts / len(images), size=resamples)
    means = size * (draws @ kinds[:, 0]) / (draws @ kinds[:, 1])
    bounds = np.quantile(means, [(1 - level) / 2, (1 + level) / 2]) / (seeds_a * seeds_b)
    low, high = sorted(float(sign * bound) for bound in bounds)  # gain in right answers of a over b
    errors_a, errors_b = (float(np.mean([report.errors for report in group])) for group in groups)
    return {
        "difference": 100 * (errors_b - errors_a) / size, "low": 100 * low / size, "high": 100 * high / size,
        "errors": errors_a - errors_b, "errors_low": 0.0 - high, "errors_high": 0.0 - low,
        "excludes_zero": low > 0 or high < 0,
        "accuracy_a": 100 * (1 - errors_a / size), "accuracy_b": 100 * (1 - errors_b / size),
        "errors_a": errors_a, "errors_b": errors_b, "seeds_a": seeds_a, "seeds_b": seeds_b,
        "test_size": size, "level": level, "resamples": resamples,
    }  # fmt: skip
