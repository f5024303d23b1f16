"""What one model answered on one split, and every number that follows from it: `Report`, made by `evaluation.evaluate`.

Logits are kept; accuracy, recall, calibration and agreement are computed from them when asked for. Loads no Keras.
"""

import dataclasses
import functools
import math

import numpy as np

from kd_lib.results import wilson_interval


def are_probabilities(answers):
    """Whether answers, an array [n, K], are probabilities where logits are expected: none below 0, rows sum to 1."""
    return bool(answers.min() >= 0 and np.allclose(answers.sum(axis=1), 1, atol=5e-3))


@dataclasses.dataclass(frozen=True, eq=False)
class Report:
    """What one model answered on one split; made by `evaluate`.

    Attributes:
        logits: float32 [n, K].
        labels: int64 [n], the true classes.
        ids: array [n], the ids of the images.
        teacher_predictions: int64 [n], the teacher's top classes, or None.
        groups: array [n], which physical sign each image shows, or None: each its own.
    """

    logits: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    teacher_predictions: np.ndarray | None = None
    groups: np.ndarray | None = None

    @functools.cached_property
    def _log_probabilities(self):
        shifted = self.logits.astype(np.float64)
        shifted -= shifted.max(axis=1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))

    @functools.cached_property
    def probabilities(self):
        """Softmax of the logits, float64 [n, K]."""
        return np.exp(self._log_probabilities)

    @functools.cached_property
    def predictions(self):
        """Top class of each image, int64 [n]."""
        return self.logits.argmax(axis=1)

    @property
    def confidence(self):
        """Probability of the top class, float64 [n]."""
        return self.probabilities.max(axis=1)

    @property
    def right(self):
        """Whether the top class is the true one, bool [n]."""
        return self.predictions == self.labels

    @property
    def errors(self):
        """Number of wrong answers."""
        return int(np.count_nonzero(~self.right))

    @property
    def accuracy(self):
        """Share of right answers, 0..1."""
        return 1 - self.errors / len(self.labels)

    @property
    def wrong(self):
        """Ids of the wrongly answered images, a list of plain values."""
        return self.ids[~self.right].tolist()

    @functools.cached_property
    def confusion(self):
        """Counts, int [K, K]: rows are true classes, columns are answers."""
        classes = self.logits.shape[1]
        return np.bincount(self.labels * classes + self.predictions, minlength=classes**2).reshape(classes, classes)

    @property
    def per_class(self):
        """Recall of each class, float64 [K]; nan where the split has no image of the class."""
        counts = self.confusion.sum(axis=1)
        return np.where(counts > 0, np.diag(self.confusion) / np.maximum(counts, 1), np.nan)

    @property
    def macro_recall(self):
        """Mean recall of the classes that the split has, 0..1."""
        return float(np.nanmean(self.per_class))

    @property
    def nll(self):
        """Mean negative log likelihood of the true class, in nats, computed in float64."""
        return float(-self._log_probabilities[np.arange(len(self.labels)), self.labels].mean())

    def calibration(self, bins=15):
        """Confidence against accuracy in bins of equal width; a value on an edge belongs to the bin below.

        Args:
            bins: number of bins between 0 and 1.

        Returns:
            dict of arrays [bins]: "count" (images), "confidence" and "accuracy" (means, nan in an empty bin).
        """
        place = np.digitize(self.confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
        count, sum_confidence, sum_right = (
            np.bincount(place, weights, bins) for weights in (None, self.confidence, self.right.astype(np.float64))
        )
        full = np.where(count > 0, count, np.nan)
        return {"count": count, "confidence": sum_confidence / full, "accuracy": sum_right / full}

    @property
    def ece(self):
        """Expected calibration error, 0..1: mean |accuracy - confidence| over 15 bins, by images (arXiv 1706.04599)."""
        bins = self.calibration()
        return float(np.nansum(bins["count"] * np.abs(bins["accuracy"] - bins["confidence"])) / len(self.labels))

    @property
    def agreement(self):
        """Share of images with the teacher's top class, 0..1; None if no teacher was given."""
        if self.teacher_predictions is None:
            return None
        return float((self.predictions == self.teacher_predictions).mean())

    def interval(self, level=0.95):
        """Wilson interval: where the accuracy on endlessly many such images plausibly lies.

        Args:
            level: confidence level between 0 and 1.

        Returns:
            (low, high), each 0..1.
        """
        return wilson_interval(len(self.labels) - self.errors, len(self.labels), level)

    def at_temperature(self, temperature):
        """The same answers with logits divided by `temperature`: other confidences, a `Report`."""
        return dataclasses.replace(self, logits=self.logits / np.float32(temperature))

    def to_dict(self):
        """Every number as plain values that json can write; None stands for a class without images."""
        names = ("accuracy", "errors", "wrong", "macro_recall", "ece", "nll", "agreement")
        per_class = [None if math.isnan(recall) else recall for recall in self.per_class.tolist()]
        return {name: getattr(self, name) for name in names} | {
            "size": len(self.labels),
            "interval": list(self.interval()),
            "per_class": per_class,
            "confusion": self.confusion.tolist(),
        }
