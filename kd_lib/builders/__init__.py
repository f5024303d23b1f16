"""Where images come from: one small source class per kind of dataset, and what they share.

A source tells what it holds (`Table`) and yields the pixels of chosen rows; `kd_lib.datasets` splits, limits and
caches them. `photos` reads GTSRB, BTSC and CIFAR by way of TensorFlow Datasets builders, `drawn` draws the embedded
signs, `folder` reads the user's own images. `archives` downloads and checks, `layouts` knows what the official archives
must contain, `pixels` decodes and resizes, `selection` splits and limits, `cache` keeps finished arrays. TensorFlow is
imported only where a builder writes or reads records.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

NAMES = ("signs", "gtsrb", "btsc", "cifar10", "cifar100")


@dataclass(frozen=True)
class Table:
    """What a source holds, one entry per image, before splitting.

    Args:
        labels: int array [n], 0 to len(class_names) - 1.
        groups: int array [n]; images of one physical object share a number, and no two classes share a group.
        ids: str array [n], a name for each image.
        test: bool array [n], the official test images; None if the source has no official test set.
        class_names: tuple of str.
    """

    labels: np.ndarray
    groups: np.ndarray
    ids: np.ndarray
    test: np.ndarray | None
    class_names: tuple


def find_source(name, archives_dir, records_dir):
    """Return the source of a dataset, and the beginning of its cache folder's name.

    Args:
        name: one of `NAMES`, or the path of a folder.
        archives_dir: folder of the downloaded archives.
        records_dir: folder for the builders' records.

    Raises:
        ValueError: for any other name.
    """
    if name == "signs":
        from kd_lib.builders.drawn import DrawnSource

        return DrawnSource(), name
    if name in NAMES:
        from kd_lib.builders.photos import BUILDERS, ArchiveSource, CifarSource

        kind = ArchiveSource if name in BUILDERS else CifarSource
        return kind(name, archives_dir, records_dir), name
    if isinstance(name, str | Path) and Path(name).expanduser().is_dir():
        from kd_lib.builders.folder import FolderSource

        source = FolderSource(name)
        return source, f"{source.name}-{hashlib.sha256(str(source.folder).encode()).hexdigest()[:8]}"
    raise ValueError(
        f"unknown dataset {name!r}: it must be one of {', '.join(NAMES)}, or the path of an existing folder"
    )
