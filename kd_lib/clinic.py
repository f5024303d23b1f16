"""Seven patients for notebook 10: small trainings, each with one mistake that was found in real code.

A patient is a function that trains, on so many images of each sign (or points of each cloud), and returns what its
owner saw. The mistake stands in a few lines inside; the notebook shows the symptom first and these lines afterwards.
Left out: the diagnosis, which is the notebook's.
"""

import functools

import keras
import numpy as np
from keras import layers, ops

from kd_lib import losses, models, signs
from kd_lib.distiller import Distiller
from kd_lib.steady import steady
from kd_lib.training import seeded

CLASSES = (33, 34, 38, 39, 12, 13, 14, 17)  # two pairs of mirror images, and four signs that a mirror does not change
MIRRORED = ((0, 1), (2, 3))  # places of those pairs
RATE = 3e-3


def ward(count, first_track=0):
    """Return drawn signs of eight classes, uint8 [8 * count, 32, 32, 3], and int32 labels 0 to 7, in random order."""
    place = np.random.default_rng(first_track).permutation(len(CLASSES) * count)
    labels = np.repeat(np.arange(len(CLASSES)), count)[place]
    view = np.tile(np.arange(count), len(CLASSES))[place]  # three views of each sign: far, nearer, near
    return signs.render(np.array(CLASSES)[labels], first_track + view // 3, 9 * (view % 3) + 9), labels.astype("int32")


def check_of(count):
    """Return other signs to evaluate on, a third as many, as `ward` does."""
    return ward(max(3, count // 3), first_track=50)


def student(seed=0, width=0.25):
    """Return an untrained student for eight classes."""
    return seeded(seed, models.student, len(CLASSES), width=width)


@functools.lru_cache
def _trained(epochs, count, seed, width, share=1):
    """A student that has learned the ward, or one image in `share` in as many steps, and its history: what several
    patients begin with. Nobody trains it further.
    """
    network, (x, y) = _compile(student(seed, width)), ward(count)
    first = len(x) // share
    return network, _fit(network, x[:first], y[:first], share * epochs, check_of(count))


def _compile(network):
    accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")  # a name is resolved within the first step
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.AdamW(RATE), loss, metrics=[accuracy])
    return network


def _answers(network, images):
    return np.argmax(network(images, training=False), axis=1)


def _batches(x, y, size=32, shuffle=False):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((x, y))
    return steady((data.shuffle(len(x), seed=0) if shuffle else data).batch(size).prefetch(2))


def _fit(network, x, y, epochs, check, shuffle=True, callbacks=None):
    if not network.optimizer.built:
        network.optimizer.build(network.trainable_variables)  # made within the first step, it is traced twice
    options = {"validation_data": check and _batches(*check, size=256), "callbacks": callbacks}
    batches = _batches(x, y, shuffle=shuffle)  # fit's own shuffle=True is for arrays, and warns here
    return network.fit(batches, epochs=epochs, shuffle=False, verbose=0, **options).history


# The patients


def case_1(epochs, count, mistake=True):
    """A student that learns from its teacher alone, on ten clouds of points."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(10, 16)).astype("float32")
    labels = generator.integers(0, 10, 10 * count)
    points = centres[labels] + 0.3 * generator.normal(size=(10 * count, 16)).astype("float32")
    teacher, pupil = (seeded(0, keras.Sequential, [layers.Input((16,)), layers.Dense(10)]) for _ in range(2))
    teacher.set_weights([4 * centres.T, 50 - 2 * (centres**2).sum(axis=1)])  # the nearest centre, nearly always right
    loss = {} if mistake else {"loss": keras.losses.KLDivergence()}
    comparison = keras.distillation.LogitsDistillation(temperature=4.0, **loss)
    distiller = keras.distillation.Distiller(teacher, pupil, comparison, student_loss_weight=0.0)
    _compile(distiller)
    return distiller.fit(points, labels, 32, epochs, verbose=0, validation_data=(points, labels)).history


def case_2(epochs, count, mistake=True):
    """A student whose owner writes down its accuracy after every epoch."""
    (x, y), check = ward(count), check_of(count)
    network, noted = _compile(student()), []
    for _ in range(epochs):
        _fit(network, x, y, 1, None)
        measured = network.evaluate(*check, verbose=0)
        noted.append(100 * (measured[0] if mistake else measured[1]))
    return {"noted": noted}


def case_3(epochs, count, mistake=True):
    """A student that does not get off the ground."""
    (x, y), check = ward(count), check_of(count)
    if mistake:
        order = np.argsort(y, kind="stable")  # as the files lie in their folders
        x, y = x[order], y[order]
    return _fit(_compile(student()), x, y, epochs, check, shuffle=not mistake)


class OwnLoop(keras.Model):
    """A network in a training loop of one's own."""

    def __init__(self, network, mistake):
        super().__init__()
        self.network, self.mistake = network, mistake

    def call(self, images, training=None):
        return self.network(images, training=training)

    def train_step(self, data):
        import tensorflow as tf

        images, truth = data
        with tf.GradientTape() as tape:
            logits = self.network(images) if self.mistake else self.network(images, training=True)
            loss = self.compute_loss(images, truth, logits)
        learning = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, learning), learning, strict=True))
        return self.compute_metrics(images, truth, logits)


def case_4(epochs, count, mistake=True):
    """A student that learns slowly, and whose weights look as they should."""
    (x, y), check = ward(count), check_of(count)
    network = student()
    return _fit(_compile(OwnLoop(network, mistake)), x, y, epochs, check) | {"network": network}


def case_5(epochs, count, mistake=True):
    """A student that is good at most signs."""
    (x, y), (held_out, truth) = ward(count), check_of(count)
    network = _compile(student())
    for epoch in range(epochs):
        turned = np.random.default_rng(epoch).random(len(x)) < (0.5 if mistake else 0.0)
        _fit(network, np.where(turned[:, None, None, None], x[:, :, ::-1], x), y, 1, None)
    answers = _answers(network, held_out)
    return {"recall": [float(np.mean(answers[truth == label] == label)) for label in range(len(CLASSES))]}


def case_6(epochs, count, mistake=True):
    """A student alone and the same student distilled: the teacher helps from the first epoch on."""
    (x, y), check = ward(count), check_of(count)
    teacher, _ = _trained(epochs, count, seed=1, width=0.5)
    plain, alone = _trained(epochs, count, seed=0, width=0.25)
    pupil = student()
    if mistake:
        pupil.set_weights(plain.get_weights())  # the student that was trained just now
    distiller = Distiller(pupil, teacher)
    distiller.compile(keras.optimizers.AdamW(RATE))
    return {"plain": alone, "distilled": _fit(distiller, x, y, epochs, check)}


class FixedTemperature(Distiller):
    """A distiller whose temperature is a Python number."""

    def __init__(self, network, teacher):
        super().__init__(network, teacher, loss=lambda student, teacher, _: losses.kd(student, teacher, self.heat))
        self.heat = 4.0


class Cooling(keras.callbacks.Callback):
    """Lets the temperature fall from 4 to 1."""

    def __init__(self, epochs):
        super().__init__()
        self.values = np.geomspace(4.0, 1.0, epochs)

    def on_epoch_begin(self, epoch, logs=None):
        self.model.heat = self.model.temperature = self.values[epoch]


def case_7(epochs, count, mistake=True):
    """A temperature that falls from 4 to 1, beside one that stays at 4."""
    x, y = ward(count)
    teacher, _ = _trained(2, count, seed=1, width=0.5)
    found = {}
    for name, callbacks in {"stays": [], "falls": [Cooling(epochs)]}.items():
        distiller = (FixedTemperature if mistake else Distiller)(student(), teacher)
        distiller.compile(keras.optimizers.AdamW(RATE))
        found[name] = _fit(distiller, x, y, epochs, None, shuffle=False, callbacks=callbacks)["distillation_loss"]
    return found


def when_not(epochs, count):
    """Students alone and distilled in four situations, as many steps in each.

    Args:
        epochs: passes over the whole ward.
        count: images of each sign in it.

    Returns:
        dict: situation -> (accuracy of the teacher, of the plain student, of the distilled one) on other signs, 0..1.
    """
    (x, y), (held_out, truth) = ward(count), check_of(count)
    (wide, _), (twin, _) = (_trained(epochs, count, seed=1, width=width) for width in (0.5, 0.25))

    def accuracy(network):
        return float(np.mean(_answers(network, held_out) == truth))

    found = {}
    for name, teacher, width, share in (
        ("few images", wide, 0.25, 10),
        ("many images", wide, 0.25, 1),
        ("teacher of the same size", twin, 0.25, 1),
        ("student too weak", wide, 1 / 64, 1),
    ):
        plain, _ = _trained(epochs, count, seed=0, width=width, share=share)
        distiller = Distiller(student(width=width), teacher)
        distiller.compile(keras.optimizers.AdamW(RATE))
        first = len(x) // share
        _fit(distiller, x[:first], y[:first], share * epochs, None)
        found[name] = accuracy(teacher), accuracy(plain), accuracy(distiller.student)
    return found


def gap_of_shift(loss):
    """How much a loss on logits changes when a constant is added to all the teacher's: 0 for a right one."""
    student_logits, teacher_logits = np.random.default_rng(0).normal(0, 3, (2, 64, 10)).astype("float32")

    def value(shift):
        return float(ops.convert_to_numpy(ops.mean(loss(student_logits, teacher_logits + shift))))

    return abs(value(5.0) - value(0.0)) / max(abs(value(0.0)), 1e-9)
