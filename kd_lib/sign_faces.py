"""The 43 sign faces of the German benchmark (GTSRB), drawn from geometry with Pillow.

Each face is a short list of discs, polygons and thick lines in a square that runs from -1 to 1 (y points down) and that
the sign's bounding box fills; no font or image file is used. Proportions follow the German signs as photographed, not
the millimetres of the official drawings: no fine print, and animals and people are simple figures. A face is drawn in
pure colours (a corner of the RGB cube, or a grey), so that the camera can repaint it with a linear map.
"""

from functools import partial
from math import cos, pi, sin

from kd_lib import sign_canvas as board
from kd_lib.sign_canvas import BLACK, GREEN, GREY, RED, WHITE, YELLOW, Canvas, arc


def _car(canvas, x, y, colour):
    """A car seen from behind, its body centred on (x, y)."""
    canvas.rectangle(x - 0.24, y - 0.05, x + 0.24, y + 0.12, colour)
    canvas.line([(x - 0.2, y - 0.03), (x - 0.14, y - 0.19), (x + 0.14, y - 0.19), (x + 0.2, y - 0.03)], 0.05, colour)
    for side in (-1, 1):
        canvas.rectangle(x + side * 0.16 - 0.05, y + 0.1, x + side * 0.16 + 0.05, y + 0.19, colour)


def _left_lorry(canvas, colour=RED):
    canvas.rectangle(-0.52, -0.32, 0.0, 0.18, colour)
    for x in (-0.42, -0.1):
        canvas.rectangle(x - 0.07, 0.2, x + 0.07, 0.3, colour)
    canvas.rectangle(-0.45, 0.16, -0.07, 0.22, colour)


def _priority_crossing(c):
    c.polygon(
        [(0, -0.25), (0.13, -0.08), (0.13, 0.45), (0.17, 0.6), (-0.17, 0.6), (-0.13, 0.45), (-0.13, -0.08)], BLACK
    )
    c.polygon([(-0.36, 0.2), (0, 0.14), (0.36, 0.2), (0.36, 0.26), (0, 0.3), (-0.36, 0.26)], BLACK)


def _lorry(c):
    c.rectangle(-0.18, -0.25, 0.58, 0.1, BLACK)
    c.rectangle(-0.3, 0.1, 0.58, 0.2, BLACK)
    c.polygon([(-0.56, 0.22), (-0.56, 0.02), (-0.4, -0.02), (-0.34, -0.15), (-0.22, -0.15), (-0.22, 0.22)], BLACK)
    for x in (-0.38, 0.22, 0.42):
        c.disc(x, 0.22, 0.095, BLACK)


def _caution(c):
    c.polygon([(-0.1, -0.3), (0.1, -0.3), (0.06, 0.36), (-0.06, 0.36)], BLACK)
    c.disc(0, 0.55, 0.1, BLACK)


def _curve(c):
    c.line([(0.21, 0.58), (0.21, 0.4), *arc(-0.05, 0.4, 0.26, 0.28, 0, -80), (-0.08, 0.12)], 0.16, BLACK, "flat")
    c.polygon([(-0.32, 0.1), (-0.06, -0.02), (-0.06, 0.26)], BLACK)


def _double_curve(c):
    c.line([(0.22, 0.58), (0.22, 0.24), (-0.1, 0.26), (-0.1, -0.05)], 0.16, BLACK, "flat")
    c.polygon([(-0.1, -0.28), (-0.24, -0.02), (0.04, -0.02)], BLACK)


def _bumps(c):
    for side in (-1, 1):
        hump = [(0, 0.62), (0, 0.55), *arc(0.22, 0.55, 0.2, 0.18, 180, 360), (0.48, 0.62)]
        c.polygon([(side * x, y) for x, y in hump], BLACK)


def _slippery(c):
    c.polygon([(-0.26, 0.03), (0.3, 0.19), (0.25, 0.37), (-0.31, 0.21)], BLACK)
    c.line([(-0.2, 0.04), (-0.12, -0.1), (0.18, -0.02), (0.22, 0.15)], 0.05, BLACK)
    for x, y in ((-0.24, 0.26), (0.18, 0.37)):
        c.disc(x, y, 0.06, BLACK)
    for x, y in ((-0.3, 0.43), (0.0, 0.5)):
        c.line([(x - 0.08, y), (x + 0.12, y), (x - 0.04, y + 0.1), (x + 0.2, y + 0.1)], 0.05, BLACK)


def _narrows(c):
    c.rectangle(-0.17, -0.16, -0.05, 0.62, BLACK)
    c.line([(0.1, -0.16), (0.1, 0.04), (0.24, 0.3), (0.24, 0.62)], 0.12, BLACK, "flat")


def _road_work(c):
    c.polygon([(0.0, 0.62), (0.16, 0.42), (0.28, 0.38), (0.38, 0.42), (0.58, 0.62)], BLACK)
    c.disc(0.06, -0.17, 0.085, BLACK)
    c.line([(-0.02, -0.02), (-0.1, 0.22)], 0.2, BLACK)
    for leg in ([(-0.14, 0.24), (-0.2, 0.42), (-0.34, 0.6)], [(-0.08, 0.24), (-0.02, 0.42), (-0.06, 0.6)]):
        c.line(leg, 0.1, BLACK)
    c.line([(0.02, -0.04), (0.16, 0.16), (0.04, 0.22)], 0.07, BLACK)
    c.line([(-0.22, 0.1), (0.24, 0.4)], 0.045, BLACK)


def _signals(c):
    for y, colour in ((-0.13, RED), (0.2, YELLOW), (0.53, GREEN)):
        c.disc(0, y, 0.13, colour)


def _person(c, x, y, size, strides):
    """A walking figure `size` tall, feet at y; strides: where left hand, right hand, left foot and right foot are."""
    left_hand, right_hand, left_foot, right_foot = (x + size * stride for stride in strides)
    c.disc(x, y - size * 0.92, size * 0.085, BLACK)
    c.line([(x, y - size * 0.72), (x, y - size * 0.5)], size * 0.21, BLACK)
    for hand in (left_hand, right_hand):
        c.line([(x, y - size * 0.75), (hand, y - size * 0.48)], size * 0.09, BLACK)
    for foot in (left_foot, right_foot):
        c.line([(x, y - size * 0.45), ((x + foot) / 2, y - size * 0.25), (foot, y - size * 0.04)], size * 0.115, BLACK)


_pedestrian = partial(_person, x=0.02, y=0.64, size=0.96, strides=(-0.24, 0.24, -0.24, 0.26))
_girl = partial(_person, x=0.14, y=0.62, size=0.78, strides=(-0.34, 0.3, -0.12, 0.38))
_boy = partial(_person, x=-0.22, y=0.62, size=0.56, strides=(-0.36, 0.4, -0.3, 0.22))


def _bicycle(c):
    for x in (-0.28, 0.28):
        c.line(arc(x, 0.42, 0.19, 0.19, 0, 360), 0.05, BLACK)
    c.line([(-0.28, 0.42), (-0.12, 0.16), (0.18, 0.16), (0.02, 0.42), (-0.28, 0.42)], 0.055, BLACK)
    for tube in ([(0.02, 0.42), (-0.14, 0.08)], [(0.28, 0.42), (0.16, 0.04), (0.26, 0.02)]):
        c.line(tube, 0.055, BLACK)
    c.line([(-0.22, 0.07), (-0.07, 0.07)], 0.06, BLACK)


def _snow(c):
    for k in range(6):
        dx, dy = cos(pi / 6 + k * pi / 3), sin(pi / 6 + k * pi / 3)
        c.line([(0, 0.28), (0.32 * dx, 0.28 + 0.32 * dy)], 0.075, BLACK)
        for turn in (-0.9, 0.9):
            ex, ey = cos(pi / 6 + k * pi / 3 + turn), sin(pi / 6 + k * pi / 3 + turn)
            c.line([(0.18 * dx, 0.28 + 0.18 * dy), (0.18 * dx + 0.12 * ex, 0.28 + 0.18 * dy + 0.12 * ey)], 0.055, BLACK)


def _deer(c):
    c.polygon([(-0.16, 0.0), (0.02, 0.13), (0.28, 0.2), (0.42, 0.34), (0.3, 0.46), (0.02, 0.4), (-0.16, 0.34)], BLACK)
    c.line([(-0.1, 0.2), (-0.16, 0.0), (-0.3, 0.08)], 0.1, BLACK)
    c.line([(-0.12, 0.0), (-0.1, -0.14), (-0.2, -0.2)], 0.05, BLACK)
    c.line([(-0.1, -0.06), (-0.02, -0.16)], 0.05, BLACK)
    for leg in ([(-0.06, 0.32), (-0.3, 0.32), (-0.38, 0.42)], [(-0.02, 0.36), (-0.24, 0.44)]):
        c.line(leg, 0.06, BLACK)
    c.line([(0.32, 0.38), (0.38, 0.52), (0.52, 0.62)], 0.08, BLACK)


def _turn_ahead(c):
    c.arrow([(-0.22, 0.7), (-0.22, 0.02), *arc(0.06, 0.02, 0.28, 0.28, 180, 270), (0.72, -0.26)], 0.19, 0.48, WHITE)


def _ahead(c):
    c.arrow([(0, 0.78), (0, -0.74)], 0.22, 0.56, WHITE)


def _ahead_or_turn(c):
    c.arrow([(-0.14, 0.78), (-0.14, -0.74)], 0.18, 0.4, WHITE)
    c.arrow([(-0.14, 0.6), (-0.1, 0.36), (0.02, 0.2), (0.2, 0.13), (0.76, 0.13)], 0.16, 0.4, WHITE)


def _keep(c):
    c.arrow([(-0.52, -0.5), (0.54, 0.52)], 0.22, 0.6, WHITE)


def _roundabout(c):
    for start in (-30, 90, 210):
        c.line(arc(0, 0, 0.6, 0.6, start + 18, start - 72), 0.105, WHITE, "flat")
        tip, tail = pi / 180 * (start - 96), pi / 180 * (start - 70)
        c.arrow([(0.62 * cos(tail), 0.62 * sin(tail)), (0.6 * cos(tip), 0.6 * sin(tip))], 0.1, 0.27, WHITE)


_left_car = partial(_car, x=-0.31, y=0.02, colour=RED)
_right_car = partial(_car, x=0.33, y=0.02, colour=BLACK)


def _plate_below(c):
    c.rectangle(-0.85, -0.98, 0.85, -0.2, BLACK)
    c.rectangle(-0.81, -0.94, 0.81, -0.24, WHITE)
    for y in (-0.7, -0.45):
        c.line([(y, y), (0.6, y)], 0.12, BLACK, "flat")


# The layers of each face, from the board up.
FACES = {
    0: (board.ring, partial(board.number, text="20")),
    1: (board.ring, partial(board.number, text="30")),
    2: (board.ring, partial(board.number, text="50")),
    3: (board.ring, partial(board.number, text="60")),
    4: (board.ring, partial(board.number, text="70")),
    5: (board.ring, partial(board.number, text="80")),
    6: (board.end_disc, partial(board.number, text="80"), board.slash),
    7: (board.ring, partial(board.number, text="100")),
    8: (board.ring, partial(board.number, text="120")),
    9: (board.ring, _left_car, _right_car),
    10: (board.ring, _left_lorry, partial(_right_car, y=0.1)),
    11: (board.triangle, _priority_crossing),
    12: (board.priority_road,),
    13: (board.give_way,),
    14: (board.stop,),
    15: (board.ring,),
    16: (board.ring, _lorry),
    17: (board.no_entry,),
    18: (board.triangle, _caution),
    19: (board.triangle, _curve),
    20: (board.triangle, _curve),
    21: (board.triangle, _double_curve),
    22: (board.triangle, _bumps),
    23: (board.triangle, _slippery),
    24: (board.triangle, _narrows),
    25: (board.triangle, _road_work),
    26: (board.triangle, _signals),
    27: (board.triangle, _pedestrian),
    28: (board.triangle, _girl, _boy),
    29: (board.triangle, _bicycle),
    30: (board.triangle, _snow),
    31: (board.triangle, _deer),
    32: (board.end_disc, partial(board.slash, pitch=0.072, share=0.9)),
    33: (board.blue, _turn_ahead),
    34: (board.blue, _turn_ahead),
    35: (board.blue, _ahead),
    36: (board.blue, _ahead_or_turn),
    37: (board.blue, _ahead_or_turn),
    38: (board.blue, _keep),
    39: (board.blue, _keep),
    40: (board.blue, _roundabout),
    41: (
        board.end_disc,
        partial(_car, x=-0.3, y=0.02, colour=GREY),
        partial(_right_car, colour=GREY),
        board.slash,
    ),
    42: (
        board.end_disc,
        partial(_left_lorry, colour=GREY),
        partial(_right_car, y=0.1, colour=GREY),
        board.slash,
    ),
    43: (_plate_below,),
}
MIRRORED = (20, 34, 37, 39)  # drawn as the mirror image of the class before


def faces(label, sizes):
    """Draw one face and reduce it by a box filter.

    Args:
        label: 0..42 for the classes; 43 is the white plate that hangs below some signs.
        sizes: sides in pixels, up to sign_canvas.MASTER.

    Returns:
        one uint8 [size, size, 4] array for each size: red, green, blue (multiplied by alpha), alpha.
    """
    canvas = Canvas(mirror=label in MIRRORED)
    for layer in FACES[label]:
        layer(canvas)
    return [canvas.reduced(size) for size in sizes]
