"""TensorFlow Datasets builder for BTSC, Belgian traffic signs; everything but the layout is shared with `gtsrb`."""

from kd_lib.builders import layouts
from kd_lib.builders.gtsrb import SignArchives


class Btsc(SignArchives):
    """Belgian traffic signs: 62 classes, 4,575 training and 2,520 test photographs (Timofte et al. 2009).

    Nine classes have no test photographs. Features as in `Gtsrb`; the group is class * 100000 + pole, in both splits.
    """

    LAYOUT = layouts.BTSC
    CLASS_NAMES = tuple(f"Belgian sign {label:02d}" for label in range(62))
    HOMEPAGE = "https://btsd.ethz.ch/shareddata/"
    CITATION = (
        "R. Timofte, K. Zimmermann, L. Van Gool: Multi-view traffic sign detection, recognition, and 3D localisation. "
        "WACV 2009, 242-249."
    )
