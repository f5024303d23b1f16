"""Pictures that show no sign, to see how a network answers where it should not be sure.

Three kinds, all made from numbers: places of the drawn signs without the sign, noise, and textures of soft coloured
patches and edges as small photographs of anything have them. Left out: real photographs of other things, which a user
has and this library may not ship.
"""

import functools

import numpy as np
from PIL import Image

from kd_lib import signs

KINDS = ("backgrounds", "noise", "textures")
_AT_ONCE = 100  # textures that are drawn together


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
    counts = [min(_AT_ONCE, count - start) for start in range(0, count, _AT_ONCE)]
    empty = np.zeros((0, image_size, image_size, 3), np.uint8)
    return np.concatenate([empty, *(_textures(generator, some, image_size) for some in counts)])


def _textures(generator, count, size):
    """A few octaves of smooth noise in random colours, with a curved edge between two of them."""
    one, other, edge = (_octaves(generator, count, size) for _ in range(3))
    edge = edge[..., :1] - np.median(edge[..., :1], axis=(1, 2), keepdims=True)
    mask = 1 / (1 + np.exp(-generator.uniform(5, 60, (count, 1, 1, 1)) * edge))
    light = generator.uniform(0.5, 1.2, (count, 1, 1, 1))
    return np.clip((one * mask + other * (1 - mask)) * light * 255, 0, 255).astype(np.uint8)


def _octaves(generator, count, size):
    """Smooth noise around a colour, float [count, size, size, 3], about 0 to 1."""
    colour = generator.uniform(0.1, 0.9, (count, 1, 1, 1)) + generator.normal(0, 0.12, (count, 1, 1, 3))
    found = np.ones((size, size, 1)) * np.clip(colour, 0, 1)
    for cells in (2, 4, 8, 16):
        weight = generator.uniform(0, 0.5, (count, 1, 1, 1)) / np.sqrt(cells)
        shape = (count, cells, cells)
        grain = generator.normal(size=(*shape, 3)) + 2.5 * generator.normal(size=(*shape, 1))  # mostly light
        rows = _enlarging(cells, size)
        found += weight / 2.7 * np.einsum("yc,nckr,xk->nyxr", rows, grain, rows, optimize=True)
    return found


@functools.lru_cache
def _enlarging(cells, size):
    """The matrix [size, cells] by which bicubic resizing makes `size` values of `cells`."""
    unit = Image.fromarray(np.eye(cells, dtype=np.float32))
    return np.asarray(unit.resize((cells, size), Image.Resampling.BICUBIC))
