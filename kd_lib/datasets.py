"""Datasets as plain arrays: load by name, split by physical object, limit, cache.

`load_dataset` gives train, validation and test images as memory-mapped uint8 arrays. Photographs of one physical sign
never lie on both sides of the split between training and validation: neighbouring frames are nearly the same picture,
and a random split would measure memory. The first call prepares (downloads, decodes or draws) and caches under
KD_HOME/datasets; later calls open the cache and import no TensorFlow. It does not augment (`kd_lib.views` does) and
keeps no aspect ratio.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kd_lib.builders import find_source
from kd_lib.builders.cache import FORMAT
from kd_lib.files import lock
from kd_lib.scale import home

SMALLEST = 8


@dataclass(frozen=True)
class Split:
    """Images with their labels.

    Args:
        images: uint8 array [n, height, width, 3]; may be memory-mapped.
        labels: int32 array [n].
        groups: int32 array [n]; images of one physical object share a number.
        ids: str array [n], a name for each image.
    """

    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    ids: np.ndarray

    def __post_init__(self):
        if self.images.ndim != 4 or self.images.shape[-1] != 3 or self.images.dtype != np.uint8:
            raise ValueError(
                f"images must be uint8 [n, height, width, 3]; received {self.images.dtype} {self.images.shape}. "
                "Values are 0..255: do not divide by 255"
            )
        for key in ("labels", "groups", "ids"):
            if len(getattr(self, key)) != len(self.images):
                raise ValueError(f"{len(self.images)} images and {len(getattr(self, key))} {key}: each image needs one")

    def __len__(self):
        return len(self.labels)

    def subset(self, indices):
        """Return the Split of some images.

        Args:
            indices: a slice (keeps the memory map), an int array or a bool array [n] (copies the images).
        """
        return Split(self.images[indices], self.labels[indices], self.groups[indices], self.ids[indices])


@dataclass(frozen=True)
class Dataset:
    """Train, validation and test images of one problem.

    Args:
        name: what it was loaded as.
        class_names: tuple of str.
        image_size: side of the square images in pixels.
        train, validation, test: `Split`.
        crop, seed, limit: as given to `load_dataset`.
        content: dict that tells other images of the same name and ids apart (drawn signs, folders), or None.

    Raises:
        ValueError: if a split is empty or a label is no class.
    """

    name: str
    class_names: tuple
    image_size: int
    train: Split
    validation: Split
    test: Split
    crop: bool = False
    seed: int = 0
    limit: int | None = None
    content: dict | None = None

    def __post_init__(self):
        for key, split in self.splits.items():
            if len(split) == 0:
                raise ValueError(f"the {key} split of {self.name} is empty: it needs more images, or a larger limit")
            low, high = int(split.labels.min()), int(split.labels.max())
            if low < 0 or high >= len(self.class_names):
                raise ValueError(
                    f"the {key} split of {self.name} has labels from {low} to {high}; with {len(self.class_names)} "
                    f"classes they must lie in 0..{len(self.class_names) - 1}"
                )

    @property
    def splits(self):
        """dict of the three splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def num_classes(self):
        """Number of classes."""
        return len(self.class_names)

    def refit_split(self):
        """Return train and validation together as one `Split`, for a last training after everything is chosen."""
        parts = (self.train, self.validation)
        together = [np.concatenate([getattr(part, key) for part in parts]) for key in ("labels", "groups", "ids")]
        # From the cache, both are neighbours in one memory-mapped file: take the piece without copying it.
        base = getattr(self.train.images, "base", None)
        if isinstance(base, np.memmap) and self.validation.images.base is base:
            starts = [images.ctypes.data for images in (base, self.train.images, self.validation.images)]
            if starts[0] == starts[1] and starts[2] == starts[1] + self.train.images.nbytes:
                return Split(base[: len(self.train) + len(self.validation)], *together)
        return Split(np.concatenate([part.images for part in parts]), *together)

    def describe(self):
        """Return a dict: split -> {"images", "classes", "groups"} (counts)."""
        return {
            key: {
                "images": len(split),
                "classes": len(np.unique(split.labels)),
                "groups": len(np.unique(split.groups)),
            }
            for key, split in self.splits.items()
        }

    @property
    def fingerprint(self):
        """dict of plain values that identifies the dataset, the same on every machine; reads no pixels of a cache."""
        pairs = (pair for s in self.splits.values() for pair in zip(s.ids.tolist(), s.labels.tolist(), strict=True))
        listed = "\n".join(f"{name} {label}" for name, label in pairs)
        return {
            "name": self.name,
            "image_size": self.image_size,
            "crop": self.crop,
            "seed": self.seed,
            "limit": self.limit,
            "classes": self.num_classes,
            "counts": {key: len(split) for key, split in self.splits.items()},
            "pixels": FORMAT,
            "ids_and_labels": f"{zlib.crc32(listed.encode()):08x}",
            **({} if self.content is None else {"content": self.content}),
            **self._own_pixels(),
        }

    def _own_pixels(self):
        """A checksum of images that are not, as they were, from a cache: someone has made or changed them."""
        own = {key: split.images for key, split in self.splits.items() if not isinstance(split.images, np.memmap)}
        return {"pixels_of": {key: f"{zlib.crc32(np.ascontiguousarray(own[key])):08x}" for key in own}} if own else {}


def load_dataset(name, *, image_size=32, crop=False, seed=0, data_dir=None, limit=None):
    """Load a dataset, from the cache if it was loaded before.

    Args:
        name: "signs" (drawn, nothing to download), "gtsrb", "btsc", "cifar10", "cifar100", or the path of a folder
            with one subfolder per class, or with images and a CSV that has the columns filename and label.
        image_size: side of the square images in pixels, at least 8. Resizing is bilinear, antialiased where it shrinks.
        crop: take only the annotated sign instead of the whole image ("signs", "gtsrb", "btsc"; no effect elsewhere).
        seed: decides which groups (tracks, poles, instances) are held out for validation: 15 % of each class, at
            least one. Test images, and how signs are drawn, do not depend on it.
        data_dir: folder of the downloaded archives instead of KD_HOME/archives.
        limit: at most this many images in each split, balanced over classes. Training takes six frames a track while
            they fit; validation and test take one frame of as many tracks as there are, then a second.

    Returns:
        `Dataset`.

    Raises:
        ValueError: unknown name, bad argument, or an archive that is not what it should be.
        FileNotFoundError: an archive could not be downloaded; says which file to put where.
    """
    from kd_lib.builders import cache

    _check(name, image_size, seed, limit)
    image_size, crop, seed, limit = int(image_size), bool(crop), int(seed), None if limit is None else int(limit)
    archives_dir = Path(data_dir).expanduser() if data_dir is not None else home() / "archives"
    source, key = find_source(name, archives_dir, home() / "datasets" / "tfds")
    key += f"-{image_size}px{'-crop' if crop else ''}-seed{seed}{f'-limit{limit}' if limit else ''}"
    folder = home() / "datasets" / key
    found = cache.read(folder, source.signature(), report=False)
    if found is None:
        with lock(home() / "datasets"):
            signature = source.signature()
            found = cache.read(folder, signature)  # another process may have built it meanwhile
            if found is None:
                signature = _build(source, signature, folder, image_size, crop, seed, limit)
                found = cache.read(folder, signature)
    return _dataset(source, found, image_size, crop, seed, limit)


def prepare(name, **options):
    """Load a dataset and print what it holds; `python -m kd_lib data NAME` calls it.

    Args:
        name: as for `load_dataset`.
        **options: as for `load_dataset`.

    Returns:
        `Dataset`.
    """
    dataset = load_dataset(name, **options)
    print(f"{dataset.name}: {dataset.num_classes} classes, {dataset.image_size} x {dataset.image_size} pixels")
    for key, counts in dataset.describe().items():
        images, groups, classes = (counts[what] for what in ("images", "groups", "classes"))
        print(f"  {key:<10} {images:>7,} images  {groups:>7,} groups  {classes:>4} classes")
    return dataset


def _check(name, image_size, seed, limit):
    integer = (int, np.integer)
    if not isinstance(image_size, integer) or isinstance(image_size, bool) or image_size < SMALLEST:
        raise ValueError(f"image_size must be a whole number of pixels, at least {SMALLEST}; received {image_size!r}")
    if not isinstance(seed, integer) or seed < 0:
        raise ValueError(f"seed must be a whole number, 0 or more; received {seed!r}")
    if not str(name):
        raise ValueError("the name of the dataset is empty")
    if limit is not None and (not isinstance(limit, integer) or isinstance(limit, bool) or limit < 1):
        raise ValueError(f"limit must be None or a whole number of images, 1 or more; received {limit!r}")


def _build(source, signature, folder, image_size, crop, seed, limit):
    """Write the cache; return the signature that it has: the one from before, as files may change under the reading.

    Archives have none before they are downloaded.
    """
    from kd_lib.builders import cache
    from kd_lib.builders.selection import split_rows

    print(f"preparing {source.name} (once; kept as {folder.name} under KD_HOME)")  # no path: it may be committed
    table = source.table()
    signature = signature or source.signature()
    parts = split_rows(table, seed, limit)
    chosen = np.concatenate(list(parts.values()))
    rows = np.full(len(table.labels), -1)
    rows[chosen] = np.arange(len(chosen))
    meta = {
        "image_size": image_size,
        "counts": {key: len(part) for key, part in parts.items()},
        "class_names": list(table.class_names),
        "signature": signature,
    }
    pixels = source.pixels(rows, image_size, crop)
    cache.write(folder, meta, table.labels[chosen], table.groups[chosen], table.ids[chosen], pixels)
    return signature


def _dataset(source, found, image_size, crop, seed, limit):
    splits, start = {}, 0
    for key, count in found["meta"]["counts"].items():
        rows = slice(start, start + count)
        splits[key] = Split(*(found[column][rows] for column in ("images", "labels", "groups", "ids")))
        start += count
    class_names = tuple(found["meta"]["class_names"])
    facts = {"crop": crop, "seed": seed, "limit": limit, "content": source.content(found["meta"])}
    return Dataset(source.name, class_names, image_size, **splits, **facts)
