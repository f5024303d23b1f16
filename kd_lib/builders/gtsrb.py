"""TensorFlow Datasets builders for photographs in official archives: GTSRB here, BTSC in `btsc` by subclassing.

`Gtsrb` works without a network when the official archives are at hand, and downloads them otherwise. Photographs are
kept at their own size, losslessly (PNG), with the sign's box, so that every image size and crop is made from one
preparation. Importing this module registers the builder: `tfds.load("gtsrb")` works afterwards. It does not split off
a validation set and does not resize; `kd_lib.load_dataset` does.
"""

import contextlib
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from kd_lib import scale
from kd_lib.builders import archives, layouts, pixels
from kd_lib.builders.progress import Progress
from kd_lib.signs import CLASS_NAMES


class SignArchives(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Builder over a `layouts.Layout`; subclasses set LAYOUT, CLASS_NAMES and the citation.

    Args:
        archives_dir: folder of the archives; None: archives/ under KD_HOME. Missing ones are downloaded into it.
        layout: a `layouts.Layout` instead of the class's own, for small archives in tests.
        **kwargs: as for every builder, above all data_dir.
    """

    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = Path(__file__).parent  # no metadata files beside this module: do not search for them
    LAYOUT: layouts.Layout
    CLASS_NAMES: tuple
    CITATION = ""
    HOMEPAGE = ""

    def __init__(self, *, archives_dir=None, layout=None, **kwargs):
        self.archives_dir = Path(archives_dir) if archives_dir else scale.home() / "archives"
        self.layout = layout or self.LAYOUT
        super().__init__(**kwargs)

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=list(self.CLASS_NAMES)),
            "id": tfds.features.Text(),
            "group": tfds.features.Scalar(np.int32),
            "roi": tfds.features.Tensor(shape=(4,), dtype=np.int32),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage=self.HOMEPAGE,
            citation=self.CITATION,
            disable_shuffling=True,  # records stay in the order of the file names
        )

    def _log_download_bytes(self):
        """Print nothing: the usual text announces a download of unknown size, also where nothing is downloaded."""

    def _log_download_done(self):
        """Print nothing."""

    def _split_generators(self, dl_manager):
        archives.fetch(self.layout.archives, self.archives_dir)
        photos = self.layout.index(self.archives_dir)
        return {split: self._generate_examples(photos[split]) for split in ("train", "test")}

    def _generate_examples(self, photos):
        for key, (photo, image) in enumerate(_encoded(photos, self.archives_dir, f"{self.layout.name} from archives")):
            yield (
                key,
                {"image": image, "label": photo.label, "id": photo.id, "group": photo.group, "roi": photo.roi},
            )


def _encoded(photos, folder, title):
    """Yield (photo, PNG bytes)."""
    with contextlib.ExitStack() as stack:
        names = {photo.archive for photo in photos}
        opened = {name: stack.enter_context(archives.open_archive(folder / name)) for name in names}
        progress = stack.enter_context(Progress(title, len(photos)))
        for photo in photos:
            progress.update(1)
            data = archives.read_entry(opened[photo.archive], photo.entry)
            try:
                yield photo, pixels.encode_png(pixels.read_ppm(data))
            except pixels.UNREADABLE as error:
                raise archives.bad_archive(
                    folder / photo.archive, f"its entry {photo.entry} is no image ({error})"
                ) from error


class Gtsrb(SignArchives):
    """German traffic signs: 43 classes, 39,209 training and 12,630 test photographs (Stallkamp et al. 2012).

    Features: image uint8 [height, width, 3], label, id (official path), group (training: class * 100000 + track; test:
    index), roi int32 [4] (x1, y1, x2, y2 of the sign, pixels, inclusive).
    """

    LAYOUT = layouts.GTSRB
    CLASS_NAMES = CLASS_NAMES
    HOMEPAGE = "https://benchmark.ini.rub.de/"
    CITATION = (
        "J. Stallkamp, M. Schlipsing, J. Salmen, C. Igel: Man vs. computer: Benchmarking machine learning algorithms "
        "for traffic sign recognition. Neural Networks 32 (2012), 323-332."
    )
