"""Belgian photographs of the signs that Germany has too: streets that no network of the 43 German classes has seen.

GTSRB's test shows about 420 physical signs and does not say which; BTSC shows twice as many of these, and names them.
Left out: Belgian signs with another meaning, or with none in Germany, such as the single class of all speed limits.
"""

import dataclasses

import numpy as np

from kd_lib.datasets import Split
from kd_lib.signs import CLASS_NAMES

# BTSC's class -> GTSRB's, by what the sign means. The pictures differ: Belgium's bicycle (8) has a rider.
GERMAN = {
    **{0: 22, 2: 23, 3: 19, 4: 20, 5: 21, 7: 28, 8: 29, 10: 25, 11: 26, 16: 24},
    **{17: 11, 19: 13, 21: 14, 22: 17, 25: 16, 28: 15, 31: 9, 34: 35, 37: 40, 61: 12},
}


def as_german(dataset):
    """Return all photographs of BTSC whose signs Germany has too, under their German classes.

    Args:
        dataset: Dataset from `load_dataset("btsc")`.

    Returns:
        Dataset of 43 classes, of which 20 have images. Each of its parts is all of them: nothing here is to learn from.

    Raises:
        ValueError: a Dataset of other classes.
    """
    if dataset.name != "btsc":
        raise ValueError(f"as_german takes the Dataset of BTSC. Received: {dataset.name}")
    learned, tested = dataset.refit_split(), dataset.test
    labels = np.concatenate([learned.labels, tested.labels])
    chosen = np.flatnonzero(np.isin(labels, list(GERMAN)))
    whole = Split(
        np.concatenate([learned.images, tested.images])[chosen],
        np.array([GERMAN[label] for label in labels[chosen].tolist()], np.int32),
        np.concatenate([learned.groups, learned.groups.max() + 1 + tested.groups])[chosen],
        np.concatenate([np.char.add(f"{part}/", split.ids) for part, split in (("train", learned), ("test", tested))])[
            chosen
        ],
    )
    return dataclasses.replace(dataset, class_names=tuple(CLASS_NAMES), train=whole, validation=whole, test=whole)
