"""Augmentation as data: K random views of each image, fixed by a table of numbers and drawn inside the graph.

A view is a row of seventeen numbers in [0, 1), one for each thing that varies; `augment` turns images and their rows
into pictures. Because the table is seeded, a view can be drawn again at any time: teacher and student are shown the
very same one, and the teacher's answer to it can be cached. There is no mirror: it turns "keep right" into "keep left".
"""

import numpy as np
from keras import ops

NUMBERS = (
    "rotation",
    "shear",
    "scale",
    "stretch",
    "shift_x",
    "shift_y",
    "brightness",
    "contrast",
    "gamma",
    "blur",
    "cutout_place",
    "cutout_size",
    "exposure",
    "saturation",
    "shadow_angle",
    "shadow_place",
    "shadow_depth",
)

DRAWN = 1  # raise it when the same numbers are drawn in another way: what was trained on the old pictures is made again


def facts():
    """Return what a key says about how views are drawn: nothing for the first way."""
    return {} if DRAWN == 1 else {"views_drawn": DRAWN}


def view_table(images, views, seed=0):
    """Return the numbers of `views` random views of each of `images` images.

    Args:
        images: number of images.
        views: K, the number of views of each, at least 1.
        seed: whole number; view k is the same whatever K is.

    Returns:
        float32 [views, images, 17], uniform in [0, 1), in the order of `NUMBERS`.

    Raises:
        ValueError: images or views below 1.
    """
    if images < 1 or views < 1:
        raise ValueError(
            f"A view table needs at least one image and one view. Received: images={images}, views={views}"
        )
    table = np.empty((views, images, len(NUMBERS)), np.float32)
    for view in range(views):
        np.random.default_rng([seed, view]).random(out=table[view], dtype=np.float32)
    return table


def augment(images, numbers, strength=1.0):
    """Draw one view of each image.

    At strength 1: rotation up to 15 degrees, shear 0.15, size 0.85 to 1.15, stretch 8 %, shift 10 % of the side, blur
    or sharpening, saturation 0.4 to 1.6, for half of the views a shadow that takes up to 80 % of the light beyond its
    edge, exposure 0.37 to 2.7 (what is too bright is lost), brightness 40 levels, contrast 0.6 to 1.4, gamma 0.7 to
    1.4, and, for a third of the views, a grey square of up to 40 % of the side. Strength scales how
    far all of it goes. What it does not scale: blur lies around a slight softening, a fifth of the way to the mean of
    3 x 3 pixels, in every view of a strength above 0. Strength 0 returns the images as they are, as float32.

    Args:
        images: [batch, height, width, 3], 0..255, uint8 or float.
        numbers: float [batch, 17], one row of a view table per image.
        strength: 0 (nothing) to about 1.5.

    Returns:
        float32 [batch, height, width, 3], 0..255.
    """
    images, numbers = ops.cast(images, "float32"), ops.cast(numbers, "float32")
    if not strength:
        return images
    height, width = images.shape[1], images.shape[2]
    signed = (numbers * 2.0 - 1.0) * strength
    rotation, shear, scale, stretch, shift_x, shift_y, brightness, contrast, gamma, blur = [
        signed[:, index] for index in range(10)
    ]
    exposure, saturation = signed[:, 12], signed[:, 13]
    images = _warp(images, rotation, shear, scale, stretch, shift_x, shift_y)

    def per_image(values):
        return ops.reshape(values, (-1, 1, 1, 1))

    softened = ops.average_pool(images, 3, strides=1, padding="same")
    images = images + per_image(0.2 + 0.6 * blur) * (softened - images)
    grey = ops.mean(images, axis=3, keepdims=True)
    images = grey + (images - grey) * per_image(1.0 + 0.6 * saturation)
    images = images * _light(numbers[:, 14:17], strength, height, width) * per_image(ops.exp(exposure))
    mean = ops.mean(images, axis=(1, 2, 3), keepdims=True)
    images = mean + (images - mean) * per_image(1.0 + 0.4 * contrast) + per_image(40.0 * brightness)
    images = ops.clip(images, 0.0, 255.0)
    images = 255.0 * ops.power(images / 255.0 + 1e-6, per_image(ops.exp(0.35 * gamma)))
    return ops.clip(_cut_out(images, numbers, strength, height, width), 0.0, 255.0)


def _warp(images, rotation, shear, scale, stretch, shift_x, shift_y):
    """Map each output pixel to the input by one affine matrix per image; outside the image the edge is repeated."""
    height, width = images.shape[1], images.shape[2]
    angle, slope = rotation * (np.pi / 12), shear * 0.15
    size_x = ops.exp(0.14 * scale + 0.08 * stretch)
    size_y = ops.exp(0.14 * scale - 0.08 * stretch)
    a0 = ops.cos(angle) * size_x
    a1 = (slope - ops.sin(angle)) * size_x
    b0 = ops.sin(angle) * size_y
    b1 = ops.cos(angle) * size_y
    center_x, center_y = (width - 1) / 2.0, (height - 1) / 2.0
    a2 = center_x + 0.1 * width * shift_x - a0 * center_x - a1 * center_y
    b2 = center_y + 0.1 * height * shift_y - b0 * center_x - b1 * center_y
    zero = ops.zeros_like(a0)
    transforms = ops.stack([a0, a1, a2, b0, b1, b2, zero, zero], axis=1)
    return ops.image.affine_transform(images, transforms, interpolation="bilinear", fill_mode="nearest")


def _light(numbers, strength, height, width):
    """The share of the light that is left at each place, [batch, height, width, 1]: beyond a soft straight edge, a
    shadow lies. Half of the views have none.
    """
    angle, place = numbers[:, 0] * (2.0 * np.pi), (numbers[:, 1] * 2.0 - 1.0) * 0.7
    depth = ops.minimum(0.8 * strength * ops.maximum(2.0 * numbers[:, 2] - 1.0, 0.0), 1.0)
    x = (ops.arange(width, dtype="float32") + 0.5) * (2.0 / width) - 1.0
    y = (ops.arange(height, dtype="float32") + 0.5) * (2.0 / height) - 1.0
    along = ops.cos(angle)[:, None, None] * x[None, None, :] + ops.sin(angle)[:, None, None] * y[None, :, None]
    shade = ops.sigmoid(10.0 * (along - place[:, None, None]))
    return (1.0 - depth[:, None, None] * shade)[..., None]


def _cut_out(images, numbers, strength, height, width):
    """Cover a square with mid-grey in a third of the views. One number gives both coordinates: its 16 x 16 cell."""
    place, size = numbers[:, 10], numbers[:, 11]
    row = ops.floor(place * 16.0)
    column = place * 256.0 - row * 16.0
    half = 0.2 * strength * ops.maximum(size - 2.0 / 3.0, 0.0) * 3.0
    x = (ops.arange(width, dtype="float32") + 0.5) / width
    y = (ops.arange(height, dtype="float32") + 0.5) / height
    inside_x = ops.abs(x[None, :] - (column / 16.0)[:, None]) < half[:, None]
    inside_y = ops.abs(y[None, :] - (row / 16.0)[:, None]) < half[:, None]
    inside = ops.logical_and(inside_y[:, :, None], inside_x[:, None, :])
    return ops.where(inside[..., None], 110.0, images)


def fit_to(network, images):
    """Return the images at the network's input size: the smaller of two networks sees a resized copy.

    Whole ratios average areas; others take the antialiased bilinear filter.
    """
    size = tuple(network.input_shape[1:3])
    seen = tuple(images.shape[1:3])
    if None in size or None in seen or size == seen:
        return images
    if size[0] > seen[0] or size[1] > seen[1]:
        raise ValueError(
            f"{network.name} takes images of {size[0]} x {size[1]} pixels but was given {seen[0]} x {seen[1]}. Load "
            f"the data with image_size={size[0]}; a network with a smaller input gets a resized copy."
        )
    images = ops.cast(images, "float32")
    if seen[0] % size[0] == 0 and seen[1] % size[1] == 0:
        return ops.average_pool(images, (seen[0] // size[0], seen[1] // size[1]))
    return ops.image.resize(images, size, interpolation="bilinear", antialias=True)
