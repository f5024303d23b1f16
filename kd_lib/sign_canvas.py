"""What the sign faces are drawn with: a canvas in units of half the sign's width, lines, letters and the sign boards.

The canvas runs from -1 to 1 (y points down). It holds pure colours and a coverage mask, without antialiasing: it is
drawn large and reduced by a box filter. The letters are strokes after the German road type (DIN 1451), only those that
the 43 signs need, so no font file is used.
"""

from math import cos, hypot, pi, sin

import numpy as np
from PIL import Image, ImageDraw

WHITE, BLACK, GREY = (255, 255, 255), (0, 0, 0), (55, 55, 55)
RED, YELLOW, GREEN, BLUE = (255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 0, 255)
MASTER = 1024  # pixels a side before the box filter: eight samples a pixel at size 128


class Canvas:
    """A colour image on black and its coverage mask, drawn in units of half the sign's width."""

    def __init__(self, mirror=False):
        self.colour = Image.new("RGB", (MASTER, MASTER))
        self.mask = Image.new("L", (MASTER, MASTER))
        self.draws = ((ImageDraw.Draw(self.colour), None), (ImageDraw.Draw(self.mask), 255))
        self.sign = -1 if mirror else 1

    def reduced(self, size):
        """The drawing at `size` pixels: uint8 [size, size, 4], red, green, blue (multiplied by alpha), alpha."""
        layers = [layer.resize((size, size), Image.Resampling.BOX) for layer in (self.colour, self.mask)]
        return np.dstack([np.asarray(layer) for layer in layers])

    def _points(self, points):
        return [((1 + self.sign * x) * MASTER / 2, (1 + y) * MASTER / 2) for x, y in points]

    def polygon(self, points, colour):
        for draw, fill in self.draws:
            draw.polygon(self._points(points), fill=fill or colour)

    def disc(self, x, y, radius, colour):
        self.polygon(arc(x, y, radius, radius, 0, 360), colour)

    def rectangle(self, x0, y0, x1, y1, colour):
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def line(self, points, width, colour, ends="round"):
        """A thick line with round joins; `ends` is "round" or "flat"."""
        for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
            length = hypot(x1 - x0, y1 - y0) or 1.0
            dx, dy = (y1 - y0) / length * width / 2, (x0 - x1) / length * width / 2
            self.polygon([(x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)], colour)
        for x, y in points if ends == "round" else points[1:-1]:
            self.disc(x, y, width / 2, colour)

    def arrow(self, points, width, head, colour):
        """A line that ends in a swept-back arrow head `head` long, as on the blue signs."""
        (x0, y0), (x1, y1) = points[-2:]
        length = hypot(x1 - x0, y1 - y0)
        dx, dy = (x1 - x0) / length, (y1 - y0) / length
        self.line([*points[:-1], (x1 - dx * head * 0.4, y1 - dy * head * 0.4)], width, colour, ends="flat")

        def place(along, across):
            return x1 + head * (along * dx - across * dy), y1 + head * (along * dy + across * dx)

        barbs = [(0, 0), (-0.75, 0.8), (-1.15, 0.8), (-0.6, 0.1), (-0.6, -0.1), (-1.15, -0.8), (-0.75, -0.8)]
        self.polygon([place(*barb) for barb in barbs], colour)


def arc(x, y, rx, ry, start, stop):
    """Points of an elliptic arc; degrees, 0 to the right, 90 down."""
    count = max(3, int(abs(stop - start) / 6))
    angles = [pi / 180 * (start + (stop - start) * i / count) for i in range(count + 1)]
    return [(x + rx * cos(angle), y + ry * sin(angle)) for angle in angles]


# Strokes of each glyph's centre line in a unit box, after the German road type (DIN 1451).
GLYPHS = {
    "0": [arc(0.5, 0.3, 0.5, 0.3, 180, 360) + arc(0.5, 0.7, 0.5, 0.3, 0, 180) + [(0, 0.3)]],
    "1": [[(0.1, 0.25), (0.6, 0), (0.6, 1)]],
    "2": [arc(0.5, 0.28, 0.48, 0.28, 185, 390) + [(0.0, 1), (1, 1)]],
    "3": [arc(0.48, 0.25, 0.46, 0.25, 200, 450) + arc(0.5, 0.74, 0.5, 0.26, -90, 155)],
    "5": [[(0.92, 0), (0.14, 0), (0.08, 0.46), *arc(0.5, 0.69, 0.5, 0.31, -140, 150)]],
    "6": [arc(0.5, 0.68, 0.5, 0.32, 0, 360), [(0.75, 0), *arc(0.9, 0.68, 0.9, 0.5, 225, 180)]],
    "7": [[(0, 0), (1, 0), (0.4, 1)]],
    "8": [arc(0.5, 0.24, 0.45, 0.24, 0, 360), arc(0.5, 0.74, 0.5, 0.26, 0, 360)],
    "S": [arc(0.5, 0.26, 0.48, 0.26, -25, -270) + arc(0.5, 0.76, 0.5, 0.24, -90, 155)],
    "T": [[(0, 0), (1, 0)], [(0.5, 0), (0.5, 1)]],
    "O": [arc(0.5, 0.3, 0.5, 0.3, 180, 360) + arc(0.5, 0.7, 0.5, 0.3, 0, 180) + [(0, 0.3)]],
    "P": [[(0, 1), (0, 0), (0.5, 0), *arc(0.6, 0.29, 0.4, 0.29, -90, 90), (0, 0.58)]],
}


def text_line(canvas, text, width, gap, top, bottom, stroke, colour):
    left = -(len(text) * width + (len(text) - 1) * gap) / 2
    for index, letter in enumerate(text):
        x, y = left + index * (width + gap) + stroke / 2, top + stroke / 2
        for points in GLYPHS[letter]:
            line = [(x + u * (width - stroke), y + v * (bottom - top - stroke)) for u, v in points]
            canvas.line(line, stroke, colour)


def number(canvas, text, colour=BLACK):
    if len(text) == 2:
        text_line(canvas, text, 0.46, 0.09, -0.4, 0.4, 0.125, colour)
    else:
        text_line(canvas, text, 0.32, 0.06, -0.4, 0.4, 0.105, colour)


def ring(canvas):
    canvas.disc(0, 0, 0.98, WHITE)
    canvas.disc(0, 0, 0.95, RED)
    canvas.disc(0, 0, 0.70, WHITE)


def blue(canvas):
    canvas.disc(0, 0, 0.97, WHITE)
    canvas.disc(0, 0, 0.93, BLUE)


def triangle(canvas):
    corners = [(0, -0.88), (0.9, 0.84), (-0.9, 0.84)]
    for width, colour in ((0.22, WHITE), (0.16, RED)):
        canvas.polygon(corners, colour)
        canvas.line([*corners, corners[0]], width, colour)
    canvas.polygon([(0, -0.53), (0.65, 0.69), (-0.65, 0.69)], WHITE)


def end_disc(canvas):
    canvas.disc(0, 0, 0.97, GREY)
    canvas.disc(0, 0, 0.93, WHITE)


def slash(canvas, pitch=0.1, share=0.66):
    """Five parallel lines from lower left to upper right, `pitch` apart; `share` of the band is paint."""
    for offset in (-2 * pitch, -pitch, 0, pitch, 2 * pitch):
        middle, reach = 0.70711 * offset, 0.70711 * (0.9**2 - offset**2) ** 0.5
        canvas.line([(middle - reach, middle + reach), (middle + reach, middle - reach)], pitch * share, BLACK, "flat")


def priority_road(c):
    for reach, colour in ((0.97, BLACK), (0.95, WHITE), (0.56, BLACK), (0.53, YELLOW)):
        c.polygon([(0, -reach), (reach, 0), (0, reach), (-reach, 0)], colour)


def give_way(c):
    corners = [(0, 0.86), (0.9, -0.82), (-0.9, -0.82)]
    for width, colour in ((0.22, WHITE), (0.16, RED)):
        c.polygon(corners, colour)
        c.line([*corners, corners[0]], width, colour)
    c.polygon([(0, 0.58), (0.66, -0.67), (-0.66, -0.67)], WHITE)


def stop(c):
    for radius, colour in ((1.04, WHITE), (0.96, RED)):
        c.polygon([(radius * cos(pi / 8 * k), radius * sin(pi / 8 * k)) for k in range(1, 17, 2)], colour)
    text_line(c, "STOP", 0.35, 0.06, -0.33, 0.33, 0.11, WHITE)


def no_entry(c):
    c.disc(0, 0, 0.97, WHITE)
    c.disc(0, 0, 0.94, RED)
    c.rectangle(-0.75, -0.15, 0.75, 0.15, WHITE)
