"""One epoch of a student: alone, distilled by kd_lib, and distilled by keras.distillation, on the same images.

All see the same arrays and batches, start from the same weights and are compiled alike; keras.distillation is given
`loss=keras.losses.KLDivergence()`, with which it computes the same thing.
"""

import statistics

import keras
import numpy as np

from kd_lib import Distiller, models, signs

from .timing import interleaved, ratio

ALPHA, TEMPERATURE = 0.1, 4.0


def measure(options):
    """Return rows: the plain student in images per second, the others as ratios of an epoch's seconds."""
    count, size = options.images, options.image_size
    y = np.arange(count) % len(signs.CLASS_NAMES)
    x = signs.render(y, np.arange(count) // 30, np.arange(count) % 30, image_size=size)
    teacher = _teacher(options)
    cached_y = {"label": y, "teacher_logits": teacher.predict(x, batch_size=options.batch_size, verbose=0)}
    plain, cached, live, peer = _plain(options), _distiller(options), _distiller(options, teacher), _peer(options)
    fit = {"batch_size": options.batch_size, "verbose": 0}
    seconds = interleaved(
        {
            "plain": lambda: plain.fit(x, y, **fit),
            "cached": lambda: cached.fit(x, cached_y, **fit),
            "live": lambda: live.fit(x, y, **fit),
            "peer": lambda: peer.fit(x, y, **fit),
        },
        options.rounds,
    )
    return [
        ("plain student, an epoch", "images/s", {"value": count / statistics.median(seconds["plain"])}),
        *(
            (f"Distiller, {one}, an epoch", f"x {name}", {"ratio": ratio(seconds[one_key], seconds[other])})
            for one, one_key, other, name in (
                ("cached answers", "cached", "plain", "plain student"),
                ("live teacher", "live", "peer", "keras.distillation"),
                ("cached answers against keras.distillation", "cached", "peer", "keras.distillation"),
            )
        ),
        ("keras.distillation, an epoch", "x plain student", {"ratio": ratio(seconds["peer"], seconds["plain"])}),
    ]


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
