"""The parts of the drawn photographs' camera: random numbers, textures, sampling, paint, background and blur.

All pixels are float32 planes [images, height, width]. Random numbers are integer hashes of an image's own key. Only
exactly rounded operations are used (no exp, no matrix product), so that an image's bytes do not depend on the images
beside it. What is put together from these parts, and in which order, is in `kd_lib.signs`.
"""

import functools

import numpy as np
from PIL import Image, ImageDraw

from kd_lib import sign_faces

LEVELS = (12, 16, 20, 24, 32, 40, 48, 64, 96, 128)  # sizes of the stored faces: a far sign is sampled from a small one
BANK = 256  # side of the repeating texture and noise tables
PAINTS = {"white": (0.9, 0.91, 0.93), "black": (0.05, 0.05, 0.06), "red": (0.64, 0.06, 0.09), "blue": (0.02, 0.2, 0.6)}
PAINTS |= {"yellow": (0.92, 0.56, 0.05), "green": (0.04, 0.4, 0.28)}
DIRT = (0.32, 0.3, 0.25)
FADED = np.array([0.72, 0.55, 0.5], np.float32)[:, None, None, None]  # what the sun leaves of a paint
FADES = {"red": np.float32(1), "blue": np.float32(0.6), "yellow": np.float32(0.6), "green": np.float32(0.6)}


def mix(words):
    """The splitmix64 finaliser on uint64 arrays: neighbouring inputs give unrelated outputs."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _words(keys, count, start=0):
    steps = np.arange(start + 1, start + count + 1, dtype=np.uint64)[:, None] * np.uint64(0x9E3779B97F4A7C15)
    return mix(keys[None, :] + steps)


def _fractions(words):
    return (words >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


class Dice:
    """Random numbers of a chunk of images: float32 [n, 1, 1] a call, from each image's own 64-bit key."""

    def __init__(self, keys):
        self.rows = self._throws(keys)

    def _throws(self, keys):
        for block in range(16):
            yield from _fractions(_words(keys, 32, start=32 * block))[:, :, None, None]
        raise RuntimeError("an image needs more random numbers than its dice hold")

    def uniform(self, low=0.0, high=1.0):
        return np.float32(low) + next(self.rows) * np.float32(high - low)

    def some(self, high, power=2):
        """Between 0 and `high`, mostly small: a uniform number squared (power 2) or squared twice (power 4)."""
        value = np.square(next(self.rows))
        return (np.square(value) if power == 4 else value) * np.float32(high)

    def normal(self, scale):
        """A bell of three uniforms: near enough to a Gaussian, and never farther than 3 standard deviations."""
        return self.normals(1, scale)[0]

    def normals(self, count, scale):
        """`count` bells at once: [count, n, 1, 1]."""
        rows = [sum(next(self.rows) for _ in range(3)) for _ in range(count)]
        return (np.stack(rows) - np.float32(1.5)) * np.float32(2 * scale)

    def chance(self, probability):
        return next(self.rows) < np.float32(probability)

    def colour(self, low, high):
        """A colour, each channel between those of two colours: three arrays."""
        return [self.uniform(a, b) for a, b in zip(low, high, strict=True)]


def _pack(layers):
    """Four uint8 planes as one uint32 plane: one memory access fetches them all."""
    return sum(layer.astype(np.uint32) << np.uint32(8 * index) for index, layer in enumerate(layers))


@functools.cache
def atlas(size):
    """Every face at every level that images of `size` pixels need, each with a transparent border."""
    largest = next((level for level in LEVELS if level >= size), LEVELS[-1])
    levels = [level for level in LEVELS if level <= largest]
    tiles, starts = [], []
    for label in sign_faces.FACES:
        for face in sign_faces.faces(label, levels):
            starts.append(starts[-1] + tiles[-1].size if tiles else 0)
            tiles.append(_pack(np.moveaxis(np.pad(face, ((1, 1), (1, 1), (0, 0))), 2, 0)).ravel())
    return np.concatenate(tiles), np.array(starts).reshape(-1, len(levels)), np.array(levels)


@functools.cache
def bank():
    """A repeating 256 x 256 texture (fine grain, coarse grain, walls and edges, clouds) and two tables of noise."""
    noise = _fractions(_words(np.arange(BANK * BANK, dtype=np.uint64), 12))
    noise = noise.reshape(12, BANK, BANK)

    def smooth(plane, times):
        for reach in [2**k for k in range(times)]:
            for axis in (0, 1):
                plane = (np.roll(plane, -reach, axis) + 2 * plane + np.roll(plane, reach, axis)) / 4
        return (plane - plane.mean()) / plane.std()

    fine = smooth(noise[0], 2) + smooth(noise[1], 3)
    coarse = smooth(noise[2], 2) * 0.4 + smooth(noise[3], 4) + smooth(noise[4], 5)
    clouds = smooth(noise[5], 5) + smooth(noise[6], 6)
    walls = Image.new("L", (BANK, BANK), 128)
    draw = ImageDraw.Draw(walls)
    for x, y, width, height, grey, kind in (noise[7].ravel()[:3000].reshape(500, 6) * 256).astype(int).tolist():
        if kind < 150:
            draw.rectangle((x, y, x + width // 5, y + height // 5), fill=grey, outline=255 - grey)
        else:
            draw.line((x, y, x + (width - 128) // 2, y + height // 2), fill=grey, width=1 + kind // 80)
    grain = [np.clip(plane / plane.std() * 55 + 128, 0, 255).astype(np.uint8) for plane in (fine, coarse, clouds)]
    planes = [grain[0], grain[1], np.asarray(walls), grain[2]]
    sensor = sum(noise[:6]) - 3
    tables = np.stack([sensor / sensor.std(), smooth(noise[11], 1)]).astype(np.float32)
    return _pack([np.pad(plane, ((0, 1), (0, 1)), mode="wrap") for plane in planes]).ravel(), [
        np.roll(tables, 85 * channel, axis=2).ravel() for channel in range(3)
    ]


def _sample(table, start, side, x, y):
    """Bilinear reading of packed planes at pixel positions x, y (float32 [n, h, w]): four float32 planes in 0..1."""
    column, row = np.floor(x), np.floor(y)
    right, down = ((x - column) * 256).astype(np.uint32), ((y - row) * 256).astype(np.uint32)
    index = (row.astype(np.int32) * side + column.astype(np.int32)).astype(np.intp) + start
    both = (right * down) >> np.uint32(8)
    weights = (np.uint32(256) - right - down + both, right - both, down - both, both)
    mask, even, odd = np.uint32(0x00FF00FF), np.zeros(index.shape, np.uint32), np.zeros(index.shape, np.uint32)
    for weight, step in zip(weights, (0, 1, side - 1, 1), strict=True):
        index += step
        texel = np.take(table, index)
        even += (texel & mask) * weight
        texel >>= np.uint32(8)
        texel &= mask
        texel *= weight
        odd += texel
    low, shift, unit = np.uint32(0xFFFF), np.uint32(16), np.float32(1 / 65280)
    return [part.astype(np.float32) * unit for part in (even & low, odd & low, even >> shift, odd >> shift)]


def sample_face(faces, labels, wanted, u, v):
    """Sample faces at sign coordinates u, v (the sign fills -1..1) from the level that is `wanted` wide."""
    table, starts, levels = faces
    level = np.minimum(np.searchsorted(levels, wanted), len(levels) - 1)
    size = levels[level].reshape(-1, 1, 1)
    half, limit = (size / 2).astype(np.float32), (size + 0.999).astype(np.float32)
    x, y = (np.clip((axis + 1) * half + np.float32(0.5), 0, limit) for axis in (u, v))
    return _sample(table, starts[labels, level].reshape(-1, 1, 1), (size + 2).astype(np.int32), x, y)


def sample_texture(x, y):
    return _sample(bank()[0], 0, np.int32(BANK + 1), x - np.floor(x / BANK) * BANK, y - np.floor(y / BANK) * BANK)


def soft(values):
    return np.clip(values, 0, 1)


def blur(planes, spread_y, spread_x, size):
    """Separable blur by per-image biweight kernels: standard deviations in pixels, [n, 1, 1]."""
    taps = -(-5 * size // 32)
    for axis, spread in ((2, spread_y), (3, spread_x)):
        reach = np.maximum(spread * np.float32(2.65), 1)[None]
        weights = [np.square(np.maximum(1 - np.square(k / reach), 0)) for k in range(taps)]
        total = weights[0] + 2 * sum(weights[1:])
        result = planes * (weights[0] / total)
        padded = np.take(planes, np.clip(np.arange(1 - taps, size + taps - 1), 0, size - 1), axis=axis)
        for k in range(1, taps):
            before, after = (
                padded[(slice(None),) * axis + (slice(at, at + size),)] for at in (taps - 1 - k, taps - 1 + k)
            )
            result += (before + after) * (weights[k] / total)
        planes = result
    return planes


def paint(dice, labels, face, dirt):
    """Repaint a face drawn in pure colours with one sign's own, faded paints under `dirt` (0..1)."""
    fade, tint = dice.some(0.6), dice.normal(0.04)
    own = np.array(list(PAINTS.values()), np.float32)[..., None, None, None]
    own = own * (1 + dice.normals(len(PAINTS), 0.15)[:, None])
    own += dice.normals(own.size // dirt.shape[0], 0.025).reshape(own.shape)
    for name in ("red", "blue", "yellow", "green"):
        own[list(PAINTS).index(name), 1] += tint
        own[list(PAINTS).index(name)] += (FADED - own[list(PAINTS).index(name)]) * (fade * FADES[name])
    clean = repaint(dict(zip(PAINTS, own, strict=True)), labels, face)
    return [plane + (face[3] * np.float32(grey) - plane) * dirt for plane, grey in zip(clean, DIRT, strict=True)]


def repaint(paints, labels, face):
    """Replace the pure colours of face planes by paints: per class, a linear map of the RGB cube."""
    is_blue = ((labels >= 33) & (labels <= 40)).reshape(-1, 1, 1)
    is_yellow = (labels == 12).reshape(-1, 1, 1)
    red, green, blue, alpha = face
    planes = []
    for channel in range(3):
        white, black, crimson, marine, yellow, teal = (paints[name][channel] for name in PAINTS)
        per_blue = np.where(
            is_blue, marine - black, np.where(is_yellow, white - yellow, white - crimson - teal + black)
        )
        per_red = np.where(is_blue, (white - marine) * np.float32(0.5), crimson - black)
        per_green = white - black - per_red - per_blue
        planes.append(black * alpha + per_red * red + per_green * green + per_blue * blue)
    return planes


def background_of(dice, x, y, texture):
    """Two regions (sky, leaves, wall or road, each between two colours) that meet at a soft edge, and a pole."""
    weights = [dice.some(1, power=4) for _ in range(4)]
    total = sum(weights) + np.float32(0.02)
    value = sum(plane * (weight / total) for plane, weight in zip(texture, weights, strict=True))
    value = soft((value - np.float32(0.5)) * dice.uniform(2.0, 10.0) + dice.uniform(0.2, 0.8))
    near, far = _region(dice), _region(dice)
    nx, ny, offset = dice.uniform(-1, 1), dice.uniform(-1, 1), dice.uniform(-1, 1)
    edge = soft((x * nx + y * ny - offset) * dice.uniform(1, 12) + (value - np.float32(0.5)) * 2)
    pole = dice.chance(0.6)
    width, shift, shade = dice.uniform(0.05, 0.14), dice.normal(0.05), dice.uniform(0.1, 0.9)
    cover = soft((width - np.abs(x - shift)) * 12 + np.float32(0.5)) * (pole & (y > 0))
    planes = []
    for (low, high), (far_low, far_high) in zip(near, far, strict=True):
        low = low + (far_low - low) * edge
        plane = low + (high + (far_high - high) * edge - low) * value
        planes.append(plane + (shade * (1 + x) - plane) * cover)
    return planes


def _region(dice):
    """The darkest and the brightest colour of a region: a (low, high) pair for each channel."""
    kind, light, dull, bright = dice.uniform(), dice.uniform(0.3, 1.6), dice.uniform(0, 0.35), dice.uniform(0.8, 1.8)
    sky, leafy = kind < np.float32(0.3), kind > np.float32(0.6)
    leaves = dice.colour((0.35, 0.4, 0.15), (0.85, 0.75, 0.5))
    wall = dice.colour((0.4, 0.4, 0.35), (1, 0.95, 0.95))
    shadow = [light * dull * np.float32(value) for value in (0.45, 0.45, 0.4)]
    blue = [bright * np.float32(value) for value in (0.75, 0.85, 1.0)]
    return [
        (np.where(sky, blue[c], shadow[c]), np.where(sky, bright, light * np.where(leafy, leaves[c], wall[c])))
        for c in range(3)
    ]
