"""Small data and networks that several test modules share."""

import keras
import numpy as np
from keras import layers

from kd_lib.datasets import Split


def split(count=30, size=8, seed=0):
    """Images of which each has its number in its first pixel, so that a test can tell what it was shown."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(count)
    labels = np.arange(count, dtype=np.int32) % 3
    return Split(images, labels, np.arange(count, dtype=np.int32), np.array([str(i) for i in range(count)]))


def teacher(seed=0, size=8, scale=1.0):
    keras.utils.set_random_seed(seed)
    inputs = layers.Input((size, size, 3))
    x = layers.Dropout(0.5)(layers.Flatten()(layers.Rescaling(scale / 255)(inputs)))
    return keras.Model(inputs, layers.Dense(3)(layers.BatchNormalization()(x)))
