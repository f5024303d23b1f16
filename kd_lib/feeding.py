"""From arrays to training batches: which image, in which view, at which step.

The order of a whole training is a plain array, a function of the seed alone, so that a training which was killed goes
on with the very batch it would have seen. Left out: reading data sets (see `kd_lib.datasets`) and
making a teacher's answers (see `kd_lib.cache`).
"""

import functools
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from kd_lib import signs
from kd_lib.datasets import Split
from kd_lib.steady import steady
from kd_lib.views import NUMBERS, augment, view_table

DRAWN_SEED = 2  # another set of physical signs than the data set of drawn signs has


def training_split(dataset, config):
    """Return the Split that a training learns from: training images, with `config.refit` those of validation, and
    `config.drawn` drawn signs of the classes among them.

    Raises:
        ValueError: drawn signs are asked for, and the classes are not the 43 German ones.
    """
    check_drawn(dataset, config)
    split = dataset.refit_split() if config.refit else dataset.train
    if not config.drawn:
        return split
    classes = np.unique(split.labels)
    number = np.arange(config.drawn)
    labels = classes[number % len(classes)].astype(np.int32)
    return Split(
        np.concatenate([split.images, _drawn(labels.tobytes(), dataset.image_size, dataset.crop)]),
        np.concatenate([split.labels, labels]),
        np.concatenate([split.groups, split.groups.max() + 1 + number.astype(np.int32)]),
        np.concatenate([split.ids, np.char.add("drawn-", number.astype(str))]),
    )


@functools.lru_cache(1)  # every training of a sweep sees the same ones
def _drawn(labels, image_size, crop):
    labels = np.frombuffer(labels, np.int32)
    frames = np.random.default_rng(0).integers(0, signs.FRAMES, len(labels))
    number = np.arange(len(labels))
    return signs.render(labels, number, frames, image_size=image_size, crop=crop, seed=DRAWN_SEED)


def check_drawn(dataset, config):
    """Raise ValueError where `config` asks for drawn signs among images of other classes."""
    if config.drawn and tuple(dataset.class_names) != signs.CLASS_NAMES:
        raise ValueError(
            f"drawn signs fit data of the 43 German signs alone; {dataset.name} has other classes: drawn=0."
        )


def drawn_facts(config):
    """Return what decides how drawn signs look, for keys; empty where none are drawn."""
    return {"drawn": config.drawn, "drawings": signs.DRAWINGS} if config.drawn else {}


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
        views: K, or None for one; every image goes round its K views, from a start of its own, one further each epoch
            and each time that it comes again within one. (So with `balance`, an image of a rare class shows a view in
            two epochs that lie close together, also where K is the number of epochs.)
        balance: 0 shows every image once an epoch; 1 shows all classes equally often, so that an image of a rare class
            comes several times; between, in between.
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
        order = generator.permutation(count)
        if balance:
            order = _even(order, frequency, steps * batch_size, generator)
        order = order[: steps * batch_size]
        index.append(order.astype(np.int32))
        view.append(((start[order] + epoch + _repetition(order)) % rounds).astype(np.int32))
    shape = (epochs * steps, batch_size)
    return Plan(np.reshape(index, shape), np.reshape(view, shape), steps)


def _repetition(order):
    """How often each entry's image came before it in `order`, int array."""
    places = np.argsort(order, kind="stable")
    first = np.searchsorted(order[places], order[places], side="left")
    found = np.empty(len(order), int)
    found[places] = np.arange(len(order)) - first
    return found


def _even(order, frequency, total, generator):
    """Return `total` images, each as often as its frequency asks, rounded up or down by chance, in random order."""
    wanted = np.cumsum(frequency[order]) * (total / frequency.sum())
    places = np.searchsorted(wanted, np.arange(total) + generator.random(), side="right")
    return generator.permutation(order[np.minimum(places, len(order) - 1)])


def batches(split, order, table, *, strength=1.0, teacher_logits=None, mixup=0.0, seed=0, first_step=0):
    """Return what `fit` takes: (images float32, y), one batch per row of `order` from `first_step` on.

    Args:
        split: with `.images` and `.labels`.
        order: Plan.
        table: float32 [K, n, 17], from `view_table`, or None for no augmentation.
        strength: of the augmentation.
        teacher_logits: float16 [K, n, classes] or [K, n, teachers, classes], or None; with them, y is a dict of "label"
            and "teacher_logits".
        mixup: a of Beta(a, a), from which each image's share in its mixture with another of the batch is drawn; y is
            then an empty dict, since no label is right. 0 mixes nothing.
        seed: of the mixtures.
        first_step: row to begin at.

    Returns:
        tf.data.Dataset on the TensorFlow backend, `Batches` on the others; both hold the same.
    """
    feed = Batches(split, order, table, strength, teacher_logits, mixup, seed, first_step)
    return feed.as_tf_data() if keras.backend.backend() == "tensorflow" else feed


class Batches(keras.utils.PyDataset):
    """Batches from arrays, on any Keras backend and without TensorFlow; see `batches`."""

    def __init__(self, split, order, table, strength, teacher_logits, mixup, seed, first_step):
        super().__init__()
        if table is None:
            table, strength = np.zeros((1, len(split), len(NUMBERS)), np.float32), 0.0
        self.split, self.order, self.table, self.teacher_logits = split, order, table, teacher_logits
        self.mixup, self.seed, self.first_step = mixup, seed, first_step
        self.strength = strength
        self.show = _compiled(self._show)

    def __len__(self):
        return len(self.order.index) - self.first_step

    def __getitem__(self, position):
        step = position + self.first_step
        index, view = self.order.index[step], self.order.view[step]
        images = self.show(self.split.images[index], self.table[view, index], self._shares(step))
        return images, self._targets(index, view)

    def _show(self, images, numbers, shares):
        images = augment(images, numbers, self.strength)
        return _mixed(images, shares) if self.mixup else images

    def _shares(self, step):
        """Each image's share in its mixture, float32 [batch], 1 where nothing is mixed."""
        size = self.order.index.shape[1]
        if not self.mixup:
            return np.ones(size, np.float32)
        return np.random.default_rng([self.seed, 3, step]).beta(self.mixup, self.mixup, size).astype(np.float32)

    def _targets(self, index, view):
        if self.mixup:
            return {}
        labels = np.asarray(self.split.labels[index], np.int32)
        if self.teacher_logits is None:
            return labels
        return {"label": labels, "teacher_logits": self.teacher_logits[view, index].astype(np.float32)}

    def as_tf_data(self):
        """The same batches as a tf.data.Dataset, which reads and draws ahead while the network learns."""
        import tensorflow as tf

        size = self.split.images.shape[1:]
        batch = self.order.index.shape[1]

        def read(step):
            index, view = self.order.index[step], self.order.view[step]
            found = [np.ascontiguousarray(self.split.images[index]), self.table[view, index], self._shares(step)]
            y = self._targets(index, view)
            return found + list(y.values() if isinstance(y, dict) else [y])

        kinds = [(tf.uint8, size), (tf.float32, (len(NUMBERS),)), (tf.float32, ())]
        kinds += [] if self.mixup else [(tf.int32, ())]
        if self.teacher_logits is not None:
            kinds.append((tf.float32, self.teacher_logits.shape[2:]))

        def load(step):
            values = tf.numpy_function(read, [step], [dtype for dtype, _ in kinds], stateful=False)
            for value, (_, shape) in zip(values, kinds, strict=True):
                value.set_shape((batch, *shape))
            images, numbers, shares, *targets = values
            images = self._show(images, numbers, shares)
            if self.mixup:
                return images, {}
            return images, targets[0] if len(targets) == 1 else {"label": targets[0], "teacher_logits": targets[1]}

        steps = tf.data.Dataset.range(self.first_step, len(self.order.index))
        plain = tf.autograph.experimental.do_not_convert(load)  # no branch in it depends on a tensor
        return steady(steps.map(plain, num_parallel_calls=2).prefetch(4))


def in_order(split, batch_size):
    """Return what `evaluate` takes as (x, y): all images of a split, as they stand.

    Args:
        split: with `.images` and `.labels`.
        batch_size: images a batch; arrays come whole.

    Returns:
        (tf.data.Dataset of (images uint8, labels), None) on the TensorFlow backend, the two arrays on the others.
    """
    if keras.backend.backend() != "tensorflow":
        return split.images, split.labels
    import tensorflow as tf

    def read(start):
        place = slice(start, start + batch_size)
        return np.ascontiguousarray(split.images[place]), np.asarray(split.labels[place], np.int32)

    def load(start):
        images, labels = tf.numpy_function(read, [start], (tf.uint8, tf.int32), stateful=False)
        images.set_shape((None, *split.images.shape[1:]))
        labels.set_shape((None,))
        return images, labels

    plain = tf.autograph.experimental.do_not_convert(load)
    return steady(tf.data.Dataset.range(0, len(split), batch_size).map(plain).prefetch(1)), None


def _mixed(images, shares):
    """Mix each image of a batch with the one that stands in its place counted from the end."""
    shares = ops.reshape(shares, (-1, 1, 1, 1))
    return shares * images + (1.0 - shares) * ops.flip(images, axis=0)


def _compiled(function):
    """Compile a function of arrays where the backend can."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    return function


def make_table(count, config):
    """Return the view table that `config` asks for: K fixed views, a new one each epoch ("online"), or None."""
    if config.views is None:
        return None
    return view_table(count, config.epochs if config.views == "online" else config.views, config.view_seed)
