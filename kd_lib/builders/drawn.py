"""The embedded dataset as a source: signs drawn by `kd_lib.signs`, rendered only as far as they are asked for.

Each class has 40 tracks of 30 views for training and validation, and 10 other tracks for the test. The drawings do not
depend on the dataset's seed (that one decides the split), so every seed has the same test images.
"""

import hashlib
from pathlib import Path

import numpy as np

from kd_lib import signs
from kd_lib.builders import Table, pixels
from kd_lib.builders.progress import Progress

TRACKS, TEST_TRACKS, FRAMES = 40, 10, 30
BATCH = 256


class DrawnSource:
    """Drawn German signs: 43 classes, 51,600 images for training and validation, 12,900 for the test."""

    name = "signs"

    def content(self, meta):
        """Return what a network's key says of the images: the version of the drawings."""
        return {"drawings": signs.DRAWINGS}

    def signature(self):
        """Return a hash of the drawing code: other code draws other images."""
        digest = hashlib.sha256()
        for path in sorted(Path(signs.__file__).parent.glob("sign*.py")):
            digest.update(path.read_text(encoding="utf-8").encode())  # whatever ends its lines
        return {"code": digest.hexdigest()[:16]}

    def table(self):
        """Return the `Table` of all signs that can be drawn."""
        grid = np.mgrid[: len(signs.CLASS_NAMES), : TRACKS + TEST_TRACKS, :FRAMES].reshape(3, -1).astype(np.int32)
        self.labels, self.tracks, self.frames = grid
        ids = [f"{label:05d}/{track:05d}_{frame:05d}" for label, track, frame in grid.T.tolist()]
        return Table(
            labels=self.labels,
            groups=self.labels * 100_000 + self.tracks,
            ids=np.array(ids),
            test=self.tracks >= TRACKS,
            class_names=tuple(signs.CLASS_NAMES),
        )

    def pixels(self, rows, image_size, crop):
        """Yield (row, uint8 array [image_size, image_size, 3]); arguments as in `photos.ArchiveSource.pixels`."""
        wanted = np.flatnonzero(rows >= 0)

        def draw(chosen):
            arguments = (self.labels[chosen], self.tracks[chosen], self.frames[chosen])
            return chosen, signs.render(*arguments, image_size=image_size, crop=crop)

        blocks = (wanted[start : start + BATCH] for start in range(0, len(wanted), BATCH))
        with Progress("drawing signs", len(wanted)) as progress:
            for chosen, images in pixels.in_parallel(draw, blocks):
                yield from zip(rows[chosen], images, strict=True)
                progress.update(len(chosen))
