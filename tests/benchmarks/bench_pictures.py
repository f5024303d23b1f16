"""Images per second: signs drawn, and views drawn of them."""

import statistics

import numpy as np

from kd_lib import signs, views

from .timing import interleaved


def measure(options):
    """Return rows (name, unit, {"value": images per second}) for `signs.render` and `views.augment`."""
    import tensorflow as tf

    count, size = options.images, options.image_size
    labels = np.arange(count) % len(signs.CLASS_NAMES)
    tracks, frames = np.arange(count) // 30, np.arange(count) % 30
    images = tf.constant(signs.render(labels, tracks, frames, image_size=size))
    numbers = tf.constant(views.view_table(count, 1)[0])
    augment = tf.function(views.augment)
    starts = range(0, count, options.batch_size)

    def draw_views():
        for start in starts:
            rows = slice(start, start + options.batch_size)
            augment(images[rows], numbers[rows])

    tasks = {
        f"signs.render, {size} px": lambda: signs.render(labels, tracks, frames, image_size=size),
        f"views.augment, {size} px": draw_views,
    }
    seconds = interleaved(tasks, options.rounds)
    return [(name, "images/s", {"value": count / statistics.median(times)}) for name, times in seconds.items()]
