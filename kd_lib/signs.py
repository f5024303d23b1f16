"""The embedded dataset: photographs of German traffic signs that never were, made by a small camera model in NumPy.

`render` puts a drawn sign (`kd_lib.sign_faces`) into a scene and photographs it: mounting pose and perspective, faded
and dirty paint, background, pole and neighbouring sign, shadow, night, back light and glare, haze, capture at 15 pixels
or 150, focus and motion blur, sensor noise. A track is one physical sign that the camera approaches, as in GTSRB. Every
random number is an integer hash of (seed, label, track, frame), so an image depends on nothing else. Left out: bent
plates, rain, lens distortion, compression artefacts, street furniture.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from kd_lib import sign_faces
from kd_lib.sign_camera import (
    BANK,
    PAINTS,
    Dice,
    atlas,
    background_of,
    bank,
    blur,
    mix,
    paint,
    repaint,
    sample_face,
    sample_texture,
    soft,
)
from kd_lib.sign_canvas import MASTER

CLASS_NAMES = (
    *(f"Speed limit {speed}" for speed in (20, 30, 50, 60, 70, 80)),
    *("End of speed limit 80", "Speed limit 100", "Speed limit 120", "No overtaking", "No overtaking for trucks"),
    *("Right of way at next crossing", "Priority road", "Yield", "Stop", "No vehicles", "No trucks", "No entry"),
    *("General caution", "Curve left", "Curve right", "Double curve", "Bumpy road", "Slippery road"),
    *("Road narrows on the right", "Road work", "Traffic signals", "Pedestrians", "Children", "Bicycles"),
    *("Snow or ice", "Wild animals", "End of all restrictions", "Turn right ahead", "Turn left ahead", "Ahead only"),
    *("Ahead or right", "Ahead or left", "Keep right", "Keep left", "Roundabout", "End of no overtaking"),
    "End of no overtaking for trucks",
)
MIRROR_SAME = (11, 12, 13, 15, 17, 18, 22, 26, 30, 35)
MIRROR_SWAP = {19: 20, 20: 19, 33: 34, 34: 33, 36: 37, 37: 36, 38: 39, 39: 38}

# Raise it when the drawings change: networks that learned from the old ones are then trained again.
DRAWINGS = 1
CHUNK = 48  # images rendered together: the planes of one chunk stay in the processor's cache
FRAMES = 30


def _render_chunk(labels, tracks, frames, size, crop, seed, empty):
    """The photographs of a few images: uint8 [n, size, size, 3]."""
    seed_key = mix(np.array([seed % 2**64], dtype=np.uint64))
    track_key = mix(mix(seed_key + labels.astype(np.uint64)) + tracks.astype(np.uint64))
    track, frame = Dice(track_key), Dice(mix(track_key + frames.astype(np.uint64) + np.uint64(1)))
    progress = np.minimum(frames, FRAMES - 1).astype(np.float32)[:, None, None] / np.float32(FRAMES - 1)
    grid = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / size) - 1
    x, y = grid[None, None, :], grid[None, :, None]

    # The approach: the sign's width in captured pixels grows as one over the distance.
    first = np.float32(16) + track.some(20)
    last = first + np.float32(18) + track.some(130)
    width = (1 + frame.normal(0.02)) / (1 / first + (1 / last - 1 / first) * progress)
    margin = np.maximum(np.float32(5), width * np.float32(0.1)) * (0 if crop else 1)
    pixel = size / (width + 2 * margin)  # output pixels per captured pixel

    u, v = _pose(track, frame, x, y, width, margin)
    overlay = sample_texture(*_shifted(track, u, v, track.uniform(6, 24)))
    alpha, sign = _sign(track, labels, atlas(size), np.minimum(width, width * pixel).ravel(), u, v, overlay)
    if empty:
        alpha, sign = 0 * alpha, [0 * plane for plane in sign]
    background = _behind(track, atlas(size), width.ravel(), u, v)
    exposure = (1 + frame.normal(0.05)) * (1 - frame.uniform(0, 0.1) * progress)
    scene = _lit(track, exposure, sign, alpha, background, overlay, (u, v, x, y))
    return _capture(track, frame, scene, pixel, size)


def _pose(track, frame, x, y, width, margin):
    """Sign coordinates (the sign fills -1..1) of the image's pixels: mounting, perspective and GTSRB's loose boxes."""
    scale = (1 + 2 * margin / width) * (1 + frame.normal(0.03))
    jitter = np.float32(1) / width + np.float32(0.03)
    shift_x, shift_y = (track.normal(0.03) + frame.normal(1) * jitter for _ in range(2))
    roll, shear, aspect = track.normal(0.07) + frame.normal(0.015), track.normal(0.05), 1 + track.normal(0.04)
    depth = 1 + (track.normal(0.07) + frame.normal(0.01)) * x + track.normal(0.05) * y
    return ((x + (roll + shear) * y) * scale * aspect + shift_x) / depth, ((y - roll * x) * scale + shift_y) / depth


def _shifted(track, u, v, scale):
    """Texture coordinates: a random place of the bank, `scale` texels per unit of sign coordinates."""
    return (u + 8) * scale + track.uniform(0, BANK), (v + 8) * scale + track.uniform(0, BANK)


def _sign(track, labels, faces, wanted, u, v, overlay):
    """The sign's coverage and its colours times coverage: own paint, dirt, a sticker, leaves in front."""
    dirt = soft((overlay[1] - np.float32(0.75) + track.some(0.4)) * 4) * track.some(0.7) + track.some(0.4, power=4)
    face = sample_face(faces, labels, wanted, u, v)
    planes, alpha = paint(track, labels, face, dirt), face[3]
    slope = track.uniform(-0.6, 0.6) * u + track.uniform(-0.6, 0.6) * v
    cover = soft((overlay[0] + slope - track.uniform(0.6, 1.1)) * 8) * track.chance(0.08)
    away = np.maximum(np.abs(u - track.uniform(-0.7, 0.7)), np.abs(v - track.uniform(-0.7, 0.7)))
    sticker = soft((track.uniform(0.05, 0.25) - away) * 8) * track.chance(0.08)
    leaves, label = track.colour((0.02, 0.05, 0.0), (0.4, 0.45, 0.2)), track.colour((0, 0, 0), (1, 1, 1))
    for channel, plane in enumerate(planes):
        plane += (label[channel] * alpha - plane) * sticker
        plane += (leaves[channel] * alpha - plane) * cover
    return alpha, planes


def _behind(track, faces, wanted, u, v):
    """What is behind the sign: a textured background, a pole, and above or below some signs a neighbour."""
    planes = background_of(track, u, v, sample_texture(*_shifted(track, u, v, track.uniform(8, 33))))
    other = np.minimum(track.uniform(0, 60).astype(np.intp).ravel(), len(sign_faces.FACES) - 1)
    drop = track.uniform(1.95, 2.25) * np.where(track.chance(0.7), np.float32(-1), np.float32(1))
    tone = track.colour((0.4, 0.4, 0.4), (0.9, 0.9, 0.9))
    some = np.flatnonzero(track.chance(0.3))
    if len(some):
        *pure, alpha = sample_face(faces, other[some], wanted[some], u[some], (v + drop)[some])
        for plane, colour, level in zip(planes, pure, tone, strict=True):
            plane[some] += colour * level[some] - plane[some] * alpha
    return planes


def _lit(track, exposure, sign, alpha, background, overlay, places):
    """Light the sign and its background apart (back light, head lamps), with shadows, a colour of light and haze."""
    u, v, x, y = places
    lamp = track.uniform()
    light = np.float32(0.11) + np.float32(0.7) * lamp + np.float32(1.3) * np.square(np.square(lamp)) * lamp
    behind = light * np.where(track.chance(0.05), np.float32(0.08), np.float32(0.35) + track.some(1.1))
    behind = np.where(track.chance(0.2), track.uniform(0.6, 1.6), behind)
    slope = track.uniform(-0.6, 0.6) * u + track.uniform(-0.3, 0.3) * v
    shadow = soft((overlay[3] + slope - track.uniform(0.2, 1.1)) * 5) * track.uniform(0, 0.7)
    gradient = 1 + track.uniform(-0.25, 0.25) * u + track.uniform(-0.25, 0.25) * v - shadow
    warm = track.normal(0.09)
    glow = soft(1 + track.uniform(-0.8, 0.8) * x + track.uniform(-0.8, 0.8) * y)
    veil = np.float32(0.02) + track.some(0.25, power=4) * glow
    scene = np.empty((3, *alpha.shape), np.float32)
    for channel, colour in enumerate((1 + warm, np.float32(1), 1 - warm)):
        lit = sign[channel] * (gradient * light) + background[channel] * (behind * (1 - alpha))
        scene[channel] = lit * ((colour + track.normal(0.03)) * exposure) + veil * (1 - lit)
    grey = (scene[0] + scene[1] + scene[2]) * np.float32(1 / 3)
    scene += (grey - scene) * (track.some(0.6) - track.some(0.3))  # the camera's colour saturation
    return np.clip(scene, 0, np.float32(2.5), out=scene)


def _capture(track, frame, scene, pixel, size):
    """The camera: optics, focus and motion blur, tone curve, sensor noise, 8 bits."""
    unit = size / 32
    focus = track.some(1.6 * unit, power=4) * frame.uniform(0.5, 1.1)
    base = np.square(pixel * (track.uniform(0.25, 0.65) + frame.some(0.35))) + np.square(focus)
    spreads = [np.sqrt(base + np.square(track.some(1.4 * unit) * frame.some(1.4))) for _ in range(2)]
    scene = blur(scene, *spreads, size)
    curve, grain = track.uniform(-0.2, 0.6), np.float32(0.003) + track.some(0.028)
    rows, columns = (np.arange(size) + (frame.uniform(0, BANK)[:, 0]).astype(np.intp) for _ in range(2))
    soft_grain = np.where(pixel > np.float32(0.9), BANK * BANK, 0)  # a far sign is enlarged, and its noise with it
    place = soft_grain + (rows % BANK * BANK)[:, :, None] + (columns % BANK)[:, None, :]
    images = np.empty((*scene.shape[1:], 3), np.uint8)
    for channel in range(3):
        value = scene[channel] * (1 + curve)
        value /= 1 + curve * scene[channel]
        value += np.take(bank()[1][channel], place) * (grain * (np.float32(0.5) + np.sqrt(np.maximum(value, 0))))
        images[..., channel] = (np.clip(value, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8)
    return images


def render(labels, tracks, frames, *, image_size=32, crop=False, seed=0, empty=False):
    """Photograph drawn signs: image i is view `frames[i]` of physical sign `tracks[i]` of class `labels[i]`.

    Each image is a pure function of (seed, label, track, frame) and of image_size and crop: any subset, in any order,
    on any number of threads, gives the same bytes. The 30 frames of a track (0..29) are an approach: the same paint,
    dirt, light and background, a growing resolution, small changes of pose, light and blur.

    Args:
        labels: integers [n], 0..42.
        tracks: integers [n], 0 or more; there is no upper limit.
        frames: integers [n], 0 or more; from 29 on the camera has arrived.
        image_size: side of the square images in pixels, 8..256.
        crop: True: the sign fills the image, as a GTSRB image cropped to its annotated box; False: GTSRB's margin.
        seed: any integer; another seed is another set of physical signs.
        empty: True: the same places, light and camera, but no sign there.

    Returns:
        uint8 [n, image_size, image_size, 3], RGB.

    Raises:
        ValueError: for a label, track, frame, size or shape out of range.
    """
    columns = [_checked(name, values) for name, values in (("labels", labels), ("tracks", tracks), ("frames", frames))]
    labels, tracks, frames = columns
    if not len(labels) == len(tracks) == len(frames):
        lengths = [len(column) for column in columns]
        raise ValueError(f"labels, tracks and frames must have one length, not {lengths}: give one of each per image.")
    if len(labels) and labels.max() >= len(CLASS_NAMES):
        raise ValueError(f"labels must be 0..{len(CLASS_NAMES) - 1}; found {labels.max()}.")
    if not 8 <= image_size <= 256:
        raise ValueError(f"image_size must be 8..256 pixels; found {image_size}.")
    images = np.empty((len(labels), image_size, image_size, 3), np.uint8)
    step = max(1, CHUNK * 32 * 32 // image_size**2)
    atlas(image_size), bank()

    def work(start):
        part = slice(start, start + step)
        images[part] = _render_chunk(labels[part], tracks[part], frames[part], image_size, crop, seed, empty)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(work, range(0, len(labels), step)):
            pass
    return images


def _checked(name, values):
    array = np.asarray(values)
    if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
        raise ValueError(f"{name} must be a list of integers; found {array.dtype} of shape {array.shape}.")
    if array.size and array.min() < 0:
        raise ValueError(f"{name} must be 0 or more; found {array.min()}.")
    return array.astype(np.int64)


def pictogram(label, size=128):
    """The clean face of a class in flat paint colours.

    Args:
        label: 0..42.
        size: side in pixels, 8..1024.

    Returns:
        uint8 [size, size, 4]: red, green, blue, alpha; transparent outside the sign.

    Raises:
        ValueError: for a label or size out of range.
    """
    if not 0 <= label < len(CLASS_NAMES):
        raise ValueError(f"label must be 0..{len(CLASS_NAMES) - 1}; found {label}.")
    if not 8 <= size <= MASTER:
        raise ValueError(f"size must be 8..{MASTER} pixels; found {size}.")
    face = sign_faces.faces(label, [size])[0].astype(np.float32) / 255
    planes = repaint(PAINTS, np.array([label]), list(np.moveaxis(face, 2, 0)[:, None]))
    colour = np.dstack([plane[0] for plane in planes]) / np.maximum(face[..., 3:], 1 / 255)
    return (np.dstack([np.clip(colour, 0, 1), face[..., 3:]]) * 255).round().astype(np.uint8)
