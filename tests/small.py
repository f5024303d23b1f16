"""Small data and networks that several test modules share."""

import keras
import numpy as np
from keras import layers

from kd_lib.datasets import Dataset, Split


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


def coloured_patches(count=300, size=16, classes=5, seed=0):
    """Images that a small network learns within seconds: one bright patch, whose place tells the class."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 120, (count, size, size, 3))
    labels = np.arange(count, dtype=np.int32) % classes
    half = size // 2
    for image, label in zip(images, labels, strict=True):
        row, column = (half * (label // 2 % 2), half * (label % 2)) if label < 4 else (half // 2, half // 2)
        image[row : row + half, column : column + half] += 120
    return Split(images.astype(np.uint8), labels, np.arange(count, dtype=np.int32), np.arange(count).astype(str))


def dataset_of(split):
    """A Dataset whose three splits are the same."""
    names = tuple(f"class {label}" for label in range(split.labels.max() + 1))
    return Dataset("patches", names, split.images.shape[1], split, split, split)


def trained(network, patches, epochs=3):
    """Train a network on `coloured_patches` and return it."""
    network.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(patches.images, patches.labels, batch_size=20, epochs=epochs, verbose=0)
    return network


def sign_file(path, **facts):
    """Write an untrained student for the 43 signs as an int8 .tflite file, quickly; return its path."""
    from kd_lib import litert, models

    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    return litert.export(models.student(43, width=1 / 16), path, representative=images, facts=facts)
