"""tf.data without its tuning, for arrays and for streams of the library's own.

tf.data tunes itself in a thread that sleeps for up to a minute at a time, and the end of an iterator, which is the end
of every epoch, often waits for it (seen on TensorFlow 2.21, also in Keras' `fit` on arrays). Nothing here is left to
that tuning. Left out: which images a batch holds and how they are augmented (see `kd_lib.feeding`).
"""

import inspect

import keras
import numpy as np


def arguments(function, *args, **kwargs):
    """Return the arguments of a model's `fit` or `evaluate` by name, arrays in them as steady streams.

    Args:
        function: the bound method of keras.Model.
        *args, **kwargs: what it is called with. Arrays that Keras is asked to weigh by class or by a dict, split or
            count by steps stay as they are; so do all on another backend than TensorFlow, or for several replicas.
    """
    given = inspect.signature(function).bind(*args, **kwargs).arguments
    given = {name: value for name, value in given.items() if name != "kwargs"} | given.get("kwargs", {})
    left = (
        "_use_cached_eval_dataset",
        "class_weight",
        "validation_split",
        "steps_per_epoch",
        "validation_steps",
        "steps",
    )
    model, size = function.__self__, given.get("batch_size")
    replicas = model.distribute_strategy.num_replicas_in_sync if keras.backend.backend() == "tensorflow" else 0
    odd = not isinstance(given.get("shuffle", True), bool) or isinstance(given.get("sample_weight"), dict)
    if replicas != 1 or odd or any(given.get(name) for name in left):
        return given
    size = 32 if size is None else size
    training = function.__name__ == "fit"
    shuffle = training and given.get("shuffle", True)
    stream = of_arrays(given.get("x"), given.get("y"), given.get("sample_weight"), batch_size=size, shuffle=shuffle)
    if stream is not None:
        given |= {"x": stream, "y": None, "sample_weight": None, "batch_size": None}
        given |= {"shuffle": False} if training else {}  # the stream's order is new in each epoch
    held_out = given.get("validation_data")
    if isinstance(held_out, tuple | list) and len(held_out) in (2, 3):
        check_size = given.get("validation_batch_size")
        check = of_arrays(*held_out, batch_size=size if check_size is None else check_size)
        given |= {} if check is None else {"validation_data": check, "validation_batch_size": None}
    return given


def steady(dataset):
    """Return a tf.data.Dataset with tf.data's tuning switched off."""
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def of_arrays(x, y, sample_weight=None, *, batch_size=32, shuffle=False):
    """Return batches of arrays as Keras' `fit` makes them, or None where they are left to Keras.

    Args:
        x: array [n, ...].
        y, sample_weight: array [n, ...], or a dict of such arrays; `sample_weight` may be None.
        batch_size: rows in a batch; the last one may have fewer.
        shuffle: whether each pass has an order of its own, from Keras' global seed.

    Returns:
        tf.data.Dataset of (x, y) or (x, y, sample_weight); None if something else than NumPy arrays is among them, or
        arrays of unequal length.
    """
    import tensorflow as tf

    parts = (x, y) if sample_weight is None else (x, y, sample_weight)
    arrays = keras.tree.flatten(parts)
    if not all(isinstance(array, np.ndarray) and array.ndim and array.dtype != object for array in arrays):
        return None
    if len({len(array) for array in arrays}) != 1 or not len(arrays[0]):
        return None
    rows = tf.data.Dataset.range(len(arrays[0]))
    if shuffle:
        rows = rows.shuffle(len(arrays[0]))
    tensors = keras.tree.map_structure(_tensor, parts)

    def batch(chosen):
        return keras.tree.map_structure(lambda tensor: tf.gather(tensor, chosen), tensors)

    return steady(rows.batch(batch_size).map(batch, num_parallel_calls=2).prefetch(2))


def _tensor(array):
    """A tensor on the host, float32 for other floats, as Keras has it."""
    import tensorflow as tf

    with tf.device("CPU:0"):
        floats = array.dtype.kind == "f"
        return tf.convert_to_tensor(array.astype(keras.backend.floatx(), copy=False) if floats else array)
