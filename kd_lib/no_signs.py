"""Pictures that show no sign, to see how a network answers where it should not be sure.

Three kinds, all made from numbers: places of the drawn signs without the sign, noise, and textures of soft coloured
patches and edges as small photographs of anything have them. Left out: real photographs of other things, which a user
has and this library may not ship.
"""

import numpy as np
from PIL import Image

from kd_lib import signs

KINDS = ("backgrounds", "noise", "textures")


def draw(kind, count, *, image_size=32, seed=0):
    """Return pictures without a sign.

    Args:
        kind: one of `KINDS`.
        count: number of pictures.
        image_size: side in pixels, 8..256.
        seed: any integer of at least 0; the same seed gives the same bytes.

    Returns:
        uint8 [count, image_size, image_size, 3].

    Raises:
        ValueError: unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}. Received: {kind!r}")
    generator = np.random.default_rng(seed)
    if kind == "backgrounds":
        labels, frames = np.arange(count) % len(signs.CLASS_NAMES), generator.integers(0, signs.FRAMES, count)
        return signs.render(labels, np.arange(count), frames, image_size=image_size, seed=seed, empty=True)
    if kind == "noise":
        level, spread = generator.uniform(40, 200, (count, 1, 1, 1)), generator.uniform(10, 80, (count, 1, 1, 1))
        grey = generator.random((count, 1, 1, 1)) < 0.3
        grain = generator.normal(size=(count, image_size, image_size, 3))
        return np.clip(level + spread * np.where(grey, grain[..., :1], grain), 0, 255).astype(np.uint8)
    return np.stack([_texture(generator, image_size) for _ in range(count)])


def _texture(generator, size):
    """A few octaves of smooth noise in random colours, with a curved edge between two of them."""
    layers = [_octaves(generator, size) for _ in range(2)]
    edge = _octaves(generator, size)[..., :1]
    mask = 1 / (1 + np.exp(-generator.uniform(5, 60) * (edge - np.median(edge))))
    mixed = layers[0] * mask + layers[1] * (1 - mask)
    return np.clip(mixed * generator.uniform(0.5, 1.2) * 255, 0, 255).astype(np.uint8)


def _octaves(generator, size):
    """Smooth noise around a colour, float [size, size, 3], about 0 to 1."""
    found = np.ones((size, size, 3)) * np.clip(generator.uniform(0.1, 0.9) + generator.normal(0, 0.12, 3), 0, 1)
    for cells in (2, 4, 8, 16):
        weight = generator.uniform(0, 0.5) / np.sqrt(cells)
        grain = generator.normal(size=(3, cells, cells)) + 2.5 * generator.normal(size=(cells, cells))  # mostly light
        for channel, coarse in enumerate(grain.astype(np.float32)):
            smooth = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
            found[..., channel] += weight / 2.7 * np.asarray(smooth)
    return found
