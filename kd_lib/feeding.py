"""From arrays to training batches: which image, in which view, at which step; and the teacher's answers to those views.

The order of a whole training is a plain array, a function of the seed alone, so that a training which was killed goes
on with the very batch it would have seen. Left out: reading data sets (see `kd_lib.datasets`).
"""

import time
import warnings
from dataclasses import dataclass

import numpy as np

from kd_lib import artifacts
from kd_lib.files import writing
from kd_lib.views import augment, fit_to, view_table


@dataclass(frozen=True)
class Plan:
    """What is shown when: int32 `index` and `view`, both [steps, batch], and `steps_per_epoch`."""

    index: np.ndarray
    view: np.ndarray
    steps_per_epoch: int


def plan(labels, *, epochs, batch_size, views, balance=0.0, seed=0):
    """Return the order of images and views of a whole training.

    Args:
        labels: int [n].
        epochs, batch_size: as usual; the incomplete last batch of an epoch is dropped, other images each time.
        views: K, or None for one; every image goes round its K views, one an epoch, from a start of its own.
        balance: 0 shows every image once an epoch; 1 draws all classes equally often; between, in between.
        seed: whole number.
    """
    count = len(labels)
    batch_size = min(batch_size, count)
    steps, rounds = count // batch_size, views or 1
    index, view = [], []
    start = np.random.default_rng([seed, 1]).integers(rounds, size=count)
    frequency = np.bincount(labels)[labels].astype(float) ** -balance
    for epoch in range(epochs):
        generator = np.random.default_rng([seed, 2, epoch])
        if balance:
            order = generator.choice(count, steps * batch_size, p=frequency / frequency.sum())
        else:
            order = generator.permutation(count)[: steps * batch_size]
        index.append(order.astype(np.int32))
        view.append(((start[order] + epoch) % rounds).astype(np.int32))
    shape = (epochs * steps, batch_size)
    return Plan(np.reshape(index, shape), np.reshape(view, shape), steps)


def batches(split, order, table, *, strength=1.0, teacher_logits=None, first_step=0):
    """Return a tf.data.Dataset of (images float32, y), one batch per row of `order` from `first_step` on.

    Args:
        split: with `.images` and `.labels`.
        order: Plan.
        table: float32 [K, n, 12], from `view_table`, or None for no augmentation.
        strength: of the augmentation.
        teacher_logits: float16 [K, n, classes], or None; then y is a dict of "label" and "teacher_logits".
        first_step: row to begin at.
    """
    import tensorflow as tf

    size = split.images.shape[1:]
    if table is None:
        table, strength = np.zeros((1, len(split), 12), np.float32), 0.0

    def read(index, view):
        return np.ascontiguousarray(split.images[index]), table[view, index], np.asarray(split.labels[index], np.int32)

    def read_logits(index, view):
        return teacher_logits[view, index].astype(np.float32)

    def load(index, view):
        images, numbers, labels = tf.numpy_function(
            read, [index, view], [tf.uint8, tf.float32, tf.int32], stateful=False
        )
        images.set_shape((None, *size))
        numbers.set_shape((None, table.shape[-1]))
        labels.set_shape((None,))
        y = labels
        if teacher_logits is not None:
            logits = tf.numpy_function(read_logits, [index, view], tf.float32, stateful=False)
            logits.set_shape((None, teacher_logits.shape[-1]))
            y = {"label": labels, "teacher_logits": logits}
        return augment(images, numbers, strength), y

    rows = tf.data.Dataset.from_tensor_slices((order.index[first_step:], order.view[first_step:]))
    return rows.map(load, num_parallel_calls=2).prefetch(4)


def cached_teacher_logits(teacher, split, table, *, strength, facts, progress=print):
    """Run the teacher once over every view of every image, or load what an earlier run found.

    Args:
        teacher: keras.Model.
        split: with `.images`.
        table: float32 [K, n, 12] or None for the images as they are.
        strength: of the augmentation.
        facts: JSON-able dict that identifies data and views; the teacher's weights are added here.
        progress: called with one line per view.

    Returns:
        float16 [K, n, classes], memory-mapped.
    """
    views = 1 if table is None else len(table)
    shown = {"strength": strength, "views": None if table is None else views}
    facts = {**facts, **shown, "teacher": artifacts.fingerprint(teacher)}
    artifact = artifacts.Artifact("teacher-logits", facts)
    path = artifact.folder / "logits.npy"
    count, size = len(split), 256
    shape = (views, count, teacher.output_shape[-1])
    if path.exists():
        try:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
            if found.shape != shape:
                raise ValueError(f"shape {found.shape} instead of {shape}")
            return found
        except (OSError, ValueError, EOFError) as error:
            warnings.warn(f"The teacher's answers in {path} are corrupt ({error}); they are made again.", stacklevel=2)
    steps = np.arange(0, count, size)
    logits = np.empty(shape, np.float16)
    started = time.perf_counter()
    import tensorflow as tf

    @tf.function
    def answer(images, numbers):
        return teacher(
            fit_to(teacher, augment(images, numbers, strength if table is not None else 0.0)), training=False
        )

    for view in range(views):
        for start in steps:
            rows = slice(start, start + size)
            numbers = np.zeros((len(split.images[rows]), 12), np.float32) if table is None else table[view, rows]
            logits[view, rows] = answer(tf.constant(split.images[rows]), tf.constant(numbers)).numpy()
        progress(f"teacher's answers: view {view + 1} of {views}, {time.perf_counter() - started:.0f} s")
    if not np.all(np.isfinite(logits)):
        raise ValueError(f"{teacher.name} answers logits that are not finite in float16; its training diverged.")
    artifacts.write_facts(artifact.folder / "config.json", facts)
    with writing(path, logits.nbytes) as temporary, open(temporary, "wb") as file:
        np.save(file, logits)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def make_table(count, config):
    """Return the view table that `config` asks for: K fixed views, a new one each epoch ("online"), or None."""
    if config.views is None:
        return None
    return view_table(count, config.epochs if config.views == "online" else config.views, config.view_seed)
