"""One epoch of a student: alone, distilled by kd_lib, by a loop written out bare, and by keras.distillation.

All see the same batches, start from the same weights and are compiled alike; keras.distillation is given
`loss=keras.losses.KLDivergence()`, with which it computes the same thing.
"""

import statistics
import time

import keras
import numpy as np

from kd_lib import Distiller, feeding, losses, models, signs, steady
from kd_lib.datasets import Split
from kd_lib.recipe import Config

from .timing import interleaved, ratio

ALPHA, TEMPERATURE = 0.1, 4.0


def measure(options):
    """Return rows: images per second of the plain student, ratios of an epoch's seconds, and a share of waiting."""
    count, size = options.images, options.image_size
    y = np.arange(count) % len(signs.CLASS_NAMES)
    x = signs.render(y, np.arange(count) // 30, np.arange(count) % 30, image_size=size)
    teacher = _teacher(options)
    answers = teacher.predict(x, batch_size=options.batch_size, verbose=0)
    cached_y = {"label": y, "teacher_logits": answers}
    plain, cached, online, peer = _plain(options), _distiller(options), _distiller(options, teacher), _peer(options)
    batches = {"batch_size": options.batch_size, "shuffle": True}
    labelled, answered = steady.of_arrays(x, y, **batches), steady.of_arrays(x, cached_y, **batches)
    seconds = interleaved(
        {
            "plain student": lambda: plain.fit(labelled, verbose=0, shuffle=False),
            "cached answers": lambda: cached.fit(answered, verbose=0, shuffle=False),
            "online": lambda: online.fit(labelled, verbose=0, shuffle=False),
            "bare loop": _bare_epoch(options, teacher, x, y),
            "keras.distillation": lambda: peer.fit(labelled, verbose=0, shuffle=False),
            "teacher forward": _forward_epoch(options, teacher, x),
            "student forward": _forward_epoch(options, plain, x),
        },
        options.rounds,
    )
    compared = (
        ("Distiller, cached answers, an epoch", "cached answers", "plain student"),
        ("keras.distillation, an epoch", "keras.distillation", "cached answers"),
        ("keras.distillation, an epoch, teacher in every step", "keras.distillation", "online"),
        ("Distiller, online, an epoch", "online", "bare loop"),
        ("teacher, forward pass", "teacher forward", "student forward"),
    )
    return [
        ("plain student, an epoch", "images/s", {"value": count / statistics.median(seconds["plain student"])}),
        *((name, f"x {other}", {"ratio": ratio(seconds[one], seconds[other])}) for name, one, other in compared),
        ("waiting for data, cached answers, four views", "% of a step", {"value": _waiting(options, x, y, answers)}),
    ]


def _bare_epoch(options, teacher, x, y):
    """An epoch of online teaching with nothing around it: no metrics, no options, no checks."""
    import tensorflow as tf

    student, optimizer, label_loss = _student(options), keras.optimizers.Adam(1e-3), _label_loss()

    @tf.function
    def step(images, labels):
        answers = teacher(images, training=False)
        with tf.GradientTape() as tape:
            logits = student(images, training=True)
            distillation_loss = tf.reduce_mean(losses.kd(logits, answers, TEMPERATURE))
            loss = ALPHA * label_loss(labels, logits) + (1 - ALPHA) * distillation_loss
        learning = student.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, learning), learning, strict=True))

    optimizer.build(student.trainable_variables)

    def epoch():
        for rows in _rows(options, x):
            step(tf.constant(x[rows]), tf.constant(y[rows]))

    return epoch


def _forward_epoch(options, network, x):
    import tensorflow as tf

    forward = tf.function(lambda images: network(images, training=False))

    def epoch():
        for rows in _rows(options, x):
            forward(tf.constant(x[rows]))

    return epoch


def _waiting(options, x, y, answers):
    """Percent of a step's time in which the training waits for its next batch, views drawn on the way."""
    import tensorflow as tf

    config = Config(epochs=1 + options.rounds, batch_size=options.batch_size)
    split = Split(x, y.astype(np.int32), y, np.arange(len(y)).astype(str))
    order = feeding.plan(y, epochs=config.epochs, batch_size=config.batch_size, views=config.views)
    logits = np.repeat(answers[None].astype(np.float16), config.views, axis=0)
    table = feeding.make_table(len(split), config)
    feed = iter(feeding.batches(split, order, table, strength=config.strength, teacher_logits=logits))
    distiller = _distiller(options)
    distiller.optimizer.build(distiller.trainable_variables)
    step = tf.function(lambda images, targets: distiller.train_step((images, targets)))
    for _ in range(order.steps_per_epoch):  # an epoch to warm up
        step(*next(feed))
    waited, started = 0.0, time.perf_counter()
    for _ in range(options.rounds * order.steps_per_epoch):
        asked = time.perf_counter()
        batch = next(feed)
        waited += time.perf_counter() - asked
        step(*batch)
    return 100 * waited / (time.perf_counter() - started)


def _rows(options, x):
    return [slice(start, start + options.batch_size) for start in range(0, len(x), options.batch_size)]


def _student(options):
    keras.utils.set_random_seed(0)
    return models.student(len(signs.CLASS_NAMES), options.image_size, width=options.student_width)


def _teacher(options):
    keras.utils.set_random_seed(1)
    return models.teacher(
        len(signs.CLASS_NAMES), options.image_size, stream_width=options.teacher_width, downsample=True
    )


def _label_loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _compile(model, **loss):
    model.compile(keras.optimizers.Adam(1e-3), metrics=["accuracy"], jit_compile=False, **loss)
    return model


def _plain(options):
    return _compile(_student(options), loss=_label_loss())


def _distiller(options, teacher=None):
    distiller = Distiller(_student(options), teacher, alpha=ALPHA, temperature=TEMPERATURE)
    return _compile(distiller, label_loss=_label_loss())


def _peer(options):
    loss = keras.distillation.LogitsDistillation(temperature=TEMPERATURE, loss=keras.losses.KLDivergence())
    # It freezes the teacher that it is given, so it gets one of its own.
    peer = keras.distillation.Distiller(_teacher(options), _student(options), loss, student_loss_weight=ALPHA)
    return _compile(peer, loss=_label_loss())
