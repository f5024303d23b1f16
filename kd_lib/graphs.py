"""Whether a graph is worth tracing. TensorFlow traces a network once for each use, which takes as long as several
batches do without a graph: a few batches are answered sooner as plain Python.
"""

import keras

FEW = 4  # batches


def eager(batches):
    """Return whether so many batches are answered without a graph: at most `FEW`, on the TensorFlow backend."""
    return keras.backend.backend() == "tensorflow" and batches <= FEW
