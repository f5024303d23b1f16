"""Between a distiller and Keras: what `y` may be, and how losses of images become one number on all replicas."""

import keras
from keras import ops

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf


class Average(keras.losses.Loss):
    """The mean of losses that are already computed: sample weights and replicas as Keras has them."""

    def __init__(self):
        super().__init__(name="average", dtype="float32")

    def call(self, y_true, y_pred):
        """Return the losses as they are."""
        return y_pred

    def __call__(self, values, sample_weight=None):
        """Return one number.

        Args:
            values: float [batch]; or a scalar, of a loss that compares images with each other.
            sample_weight: [batch] or None; it does not apply to a scalar.
        """
        if len(values.shape) == 0:  # Keras would not divide it by the number of replicas
            values, sample_weight = ops.reshape(values, (1,)), None
        return super().__call__(values, values, sample_weight=sample_weight)


def unscaled(loss):
    """Undo the division by the number of replicas with which Keras' losses answer under tf.distribute."""
    if keras.backend.backend() != "tensorflow":
        return loss
    return loss * tf.distribute.get_strategy().num_replicas_in_sync


_TARGETS = ("label", "teacher_logits", "teacher_features")


def as_targets(y):
    """Return y as a dict, without labels if y is None.

    Raises:
        ValueError: a dict with other names in it, whose part would be left out without a word.
    """
    if not isinstance(y, dict):
        return {} if y is None else {"label": y}
    unknown = [str(name) for name in y if name not in _TARGETS]
    if unknown:
        raise ValueError(f"y may hold 'label' and 'teacher_logits'. Received: {', '.join(unknown)}")
    return dict(y)


def weight_of(sample_weight):
    """Return the images' weights, [batch] or None, of what Keras makes of them where y is a dict."""
    if isinstance(sample_weight, dict):
        return sample_weight.get("label", sample_weight.get("teacher_logits"))
    return sample_weight


def has_dict_target(x, y):
    """Whether y, given by itself or within a data set x, is a dict."""
    if y is None and hasattr(x, "element_spec"):
        y = x.element_spec[1] if isinstance(x.element_spec, tuple) and len(x.element_spec) > 1 else None
    elif y is None and isinstance(x, keras.utils.PyDataset):
        y = x[0][1]
    return isinstance(y, dict)
