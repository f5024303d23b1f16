"""Decode images by content, resize them to squares, and encode photographs losslessly, on a few threads.

Resizing squeezes the whole image (or the box) into a square, bilinear with antialiasing.
Aspect ratio is not kept: signs are nearly square and a border would be one more thing to explain.
"""

import io
import os
import re
import struct
import zlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import ExifTags, Image

THREADS = min(os.cpu_count() or 1, 8)
UNREADABLE = (OSError, ValueError, SyntaxError, NotImplementedError, Image.DecompressionBombError)
_FORMATS = ("PNG", "JPEG", "PPM", "WEBP", "BMP", "GIF", "TIFF")
_TURNS = {  # what undoes each orientation that EXIF knows
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def in_parallel(function, items):
    """Yield function(item) for each item, in order, on a few threads, holding only a few results at a time."""
    with ThreadPoolExecutor(THREADS) as pool:
        waiting = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def read_ppm(data):
    """Return the pixels of a binary PPM file (P6, 8 bits), or of any image that Pillow reads.

    Args:
        data: bytes of the file.

    Returns:
        uint8 array [height, width, 3].

    Raises:
        ValueError or OSError: if it cannot be decoded.
    """
    header = re.match(rb"P6\s+(?:#[^\n]*\n\s*)*(\d+)\s+(\d+)\s+255\s", data)
    if header is None:
        return np.asarray(decode(data))
    width, height = int(header[1]), int(header[2])
    if len(data) - header.end() < width * height * 3 or width * height == 0:
        raise ValueError(f"{width} x {height} pixels are announced, {len(data) - header.end():,} bytes follow")
    return np.frombuffer(data, np.uint8, width * height * 3, header.end()).reshape(height, width, 3)


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def encode_png(pixels):
    """Return an RGB array [height, width, 3] as PNG bytes, lossless and not compressed.

    Fifty thousand small photographs pass through here before anything can be seen: this takes 1 s for them where
    Pillow's encoder takes 8 s, and as much disk as the pixels.
    """
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + width * 3), np.uint8)  # each row begins with its filter, 0: pixels as they are
    rows[:, 1:] = pixels.reshape(height, width * 3)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    image = zlib.compress(rows.tobytes(), 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", image) + _chunk(b"IEND", b"")


def decode_png(data):
    """Return an RGB Pillow image from PNG bytes that a builder wrote; faster than `decode`, for nothing else."""
    image = Image.open(io.BytesIO(data), formats=("PNG",))
    image.load()
    return image


def decode(data):
    """Return an RGB Pillow image from the bytes of any image file, upright, transparency shown on white.

    The content decides, not the file name. Sixteen-bit greys are scaled to 0..255. What a picture says of itself beside
    its pixels may be damaged: then it is taken as it stands.

    Raises:
        One of `UNREADABLE`.
    """
    image = open_picture(data)
    image.load()
    turn = _TURNS.get(_orientation(image))
    if image.mode.startswith("I"):
        values = np.clip(np.asarray(image), 0, 65535)
        few = image.mode == "I" and values.max(initial=0) < 256  # 32 bits that hold what 8 could
        image = Image.fromarray((values if few else values >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    return image if turn is None else image.transpose(turn)


def open_picture(data):
    """Return the Pillow image of some bytes, its header read; of the formats for pictures alone: Pillow knows others,
    some of which start programs or unpack files inside files.

    Raises:
        One of `UNREADABLE`.
    """
    return Image.open(io.BytesIO(data), formats=_FORMATS)


def _orientation(image):
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # Pillow's reader of EXIF fails in many ways
        return None


def to_square(image, size, box=None):
    """Resize a Pillow image to size x size.

    Args:
        image: RGB Pillow image.
        size: side in pixels.
        box: (x1, y1, x2, y2), the part to take, last column and row included; None: the whole image. A box outside
            the image is clipped, an empty one means the whole image.

    Returns:
        uint8 array [size, size, 3].
    """
    if box is not None:
        x1, y1, x2, y2 = (int(value) for value in box)
        x1, y1, x2, y2 = max(x1, 0), max(y1, 0), min(x2 + 1, image.width), min(y2 + 1, image.height)
        if x1 < x2 and y1 < y2:
            image = image.crop((x1, y1, x2, y2))
    # Bilinear, which in Pillow averages where it shrinks. Not its box filter: between 48 and 32 pixels that takes two
    # pixels here and one there, and thin strokes break.
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
