"""Drawn signs and views are known by a version number: tests/drawn holds what each version looks like, in thumbnails.

Where the pixels change and the number does not, networks that learned from other pictures would be loaded as if they
were these pictures' own. After raising the number: `python -m tests.test_drawings` writes the new version's thumbnails.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kd_lib import signs, views

DRAWN = Path(__file__).parent / "drawn"
BLOCK, COLUMNS = 4, 10  # pixels a side that are averaged, thumbnails a row


def rendered_signs():
    """Every class as its drawing, as a photograph at another distance each, and some photographs cropped."""
    faces = np.stack([signs.pictogram(label, 32) for label in range(43)]) / 255
    places = np.array([[number % 43, number % 40, number * 7 % 30] for number in range(57)]).T  # label, track, frame
    photographs = signs.render(*places[:, :43]), signs.render(*places[:, 43:], crop=True)
    return np.concatenate([faces[..., :3] * faces[..., 3:] * 255, *photographs])


def rendered_views():
    """Fifty views, half of them weaker, of one picture that has broad and fine detail."""
    y, x = np.mgrid[:32, :32]
    picture = np.stack([60 + 4 * x, 40 + (x // 8 + y // 8) % 2 * 120, 120 - 3 * y + (y % 8 == 3) * 130], axis=-1)
    pictures, numbers = np.repeat(picture[None], 50, axis=0), views.view_table(50, 1, seed=0)[0]
    strong = np.asarray(views.augment(pictures[:25], numbers[:25]))
    return np.concatenate([strong, np.asarray(views.augment(pictures[25:], numbers[25:], strength=0.5))])


KINDS = {  # version number, what says where it stands, what draws
    "signs": (signs.DRAWINGS, "kd_lib.signs.DRAWINGS", rendered_signs),
    "views": (views.DRAWN, "kd_lib.views.DRAWN", rendered_views),
}


def sheet(images):
    """The block means of images, uint8, as one picture."""
    count, size, _, _ = images.shape
    small = size // BLOCK
    means = images.reshape(count, small, BLOCK, small, BLOCK, 3).mean((2, 4))
    rows = np.rint(means).astype(np.uint8).reshape(count // COLUMNS, COLUMNS, small, small, 3)
    return rows.swapaxes(1, 2).reshape(count // COLUMNS * small, COLUMNS * small, 3)


def path_of(kind):
    return DRAWN / f"{kind}-{KINDS[kind][0]}.png"


@pytest.mark.parametrize("kind", KINDS)
def test_another_way_to_draw_has_another_version_number(kind):
    version, name, render = KINDS[kind]
    assert path_of(kind).exists(), f"{name} is {version}: run python -m tests.test_drawings"
    with Image.open(path_of(kind)) as picture:
        stored = np.asarray(picture).astype(float)
    difference = np.abs(sheet(render()) - stored)
    # Another machine's exp and sin round differently: a level, here and there.
    assert difference.max() <= 3 and difference.mean() <= 0.02, (
        f"what {name} = {version} stands for is drawn in another way: raise it, and run python -m tests.test_drawings"
    )


if __name__ == "__main__":
    DRAWN.mkdir(exist_ok=True)
    for kind, (_, _, render) in KINDS.items():
        if not path_of(kind).exists():  # what a version looks like never changes
            Image.fromarray(sheet(render())).save(path_of(kind))
            print(f"wrote {path_of(kind)}")
