"""Finished arrays on disk: written once, in one atomic step, opened again without TensorFlow and without copying.

One folder per dataset, size, crop, seed and limit: `images.npy` (train, then validation, then test, opened
memory-mapped), `labels.npy`, `groups.npy`, `ids.npy` and `meta.json`. A folder whose files do not fit together is
reported and built again; single damaged pixels are not noticed. Builders wait for one another
(on Windows, where fcntl is missing, both build and the later one wins).
"""

import json
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np

from kd_lib.files import check_room, is_damage

FORMAT = 2  # raise it when images of the same key are made in another way


def read(folder, signature, report=True):
    """Open a cached dataset.

    Args:
        folder: the cache folder.
        signature: what the source looks like now; None if the source is not there any more: any cache is right.
        report: say why an existing cache is not used.

    Returns:
        dict "images", "labels", "groups", "ids" (arrays; images memory-mapped), "meta" (dict); None if there is no
        cache, if it was made from another source, or if it is damaged (a warning says so).

    Raises:
        OSError: its files cannot be read just now.
    """
    folder = Path(folder)
    if not folder.exists():
        return None
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        if meta["format"] != FORMAT or (signature is not None and meta["signature"] != signature):
            if report:
                print(f"{folder.name}: the source has changed since it was cached; building it again")
            return None
        # A pickle is never loaded: an array file that needs one is damaged or foreign.
        found = {
            key: np.load(folder / f"{key}.npy", mmap_mode="r" if key == "images" else None, allow_pickle=False)
            for key in ("images", "labels", "groups", "ids")
        }
        total = sum(meta["counts"].values())
        size = meta["image_size"]
        if found["images"].shape != (total, size, size, 3) or found["images"].dtype != np.uint8:
            raise ValueError(f"images.npy has shape {found['images'].shape}, not {(total, size, size, 3)}")
        if any(found[key].shape != (total,) for key in ("labels", "groups", "ids")):
            raise ValueError(f"labels, groups and ids do not all have {total} entries")
        if not 0 <= found["labels"].min() <= found["labels"].max() < len(meta["class_names"]):
            raise ValueError("labels.npy holds labels that are no class")
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        if not is_damage(error):
            raise
        if report:
            warnings.warn(f"the cache {folder} is damaged and is built again: {error}", stacklevel=3)
        return None
    return found | {"meta": meta}


def write(folder, meta, labels, groups, ids, pixels):
    """Write a dataset into the cache; it appears under `folder` only when it is complete.

    Args:
        folder: the cache folder; replaced if it exists.
        meta: dict with "image_size", "counts" (split -> images, in the order of the rows), "class_names", "signature".
        labels: int array [n]. groups: int array [n]. ids: str array [n].
        pixels: iterable of (row, uint8 array [size, size, 3]) in any order; a row that never comes is left out.

    Raises:
        ValueError: if a split is empty.
        OSError: if the disk has not enough room; says how much is needed.
    """
    folder = Path(folder)
    _check_counts(meta)
    size, total = meta["image_size"], len(labels)
    # Checked before: writing to a memory map on a full disk kills the process instead of raising an error.
    check_room(folder.parent, total * size * size * 3)
    prefix = f".new-{folder.name}-"
    for left_over in folder.parent.glob(prefix + "*"):
        shutil.rmtree(left_over, ignore_errors=True)  # from a killed run: who writes holds the lock
    with tempfile.TemporaryDirectory(prefix=prefix, dir=folder.parent, ignore_cleanup_errors=True) as temporary:
        new = Path(temporary) / "dataset"
        new.mkdir()
        images = np.lib.format.open_memmap(new / "images.npy", mode="w+", dtype=np.uint8, shape=(total, size, size, 3))
        arrived = np.zeros(total, bool)
        for row, image in pixels:
            images[row] = image
            arrived[row] = True
        if not arrived.all():
            _keep(images, arrived, new / "kept.npy")
            del images
            os.replace(new / "kept.npy", new / "images.npy")
            images = np.load(new / "images.npy", mmap_mode="r+")
            ends = np.cumsum(list(meta["counts"].values()))[:-1]
            counts = [int(part.sum()) for part in np.split(arrived, ends)]
            meta = meta | {"counts": dict(zip(meta["counts"], counts, strict=True))}
            _check_counts(meta)
        images.flush()
        del images  # Windows renames no folder that holds an open file
        np.save(new / "labels.npy", np.asarray(labels, np.int32)[arrived])
        np.save(new / "groups.npy", np.asarray(groups, np.int32)[arrived])
        np.save(new / "ids.npy", np.asarray(ids, str)[arrived])
        (new / "meta.json").write_text(json.dumps(meta | {"format": FORMAT}, indent=1), encoding="utf-8")
        if folder.exists():
            os.rename(folder, Path(temporary) / "replaced")
        os.rename(new, folder)


def _check_counts(meta):
    for split, count in meta["counts"].items():
        if count == 0:
            raise ValueError(
                f"the {split} split is empty (images: {meta['counts']}). A split by groups needs classes with at least "
                "2 groups (3 where there is no official test set)"
            )


def _keep(images, rows, path):
    """Write some rows of a memory-mapped image file into another, a block at a time."""
    kept = np.flatnonzero(rows)
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(len(kept), *images.shape[1:]))
    for start in range(0, len(kept), 4096):
        block = kept[start : start + 4096]
        out[start : start + len(block)] = images[block]
    out.flush()
