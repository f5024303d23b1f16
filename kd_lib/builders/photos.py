"""Sources that come by way of TensorFlow Datasets builders: GTSRB and BTSC (our builders), CIFAR (its own).

A builder writes the photographs once (KD_HOME/datasets/tfds/), each at its own size; every image size and crop is
then decoded from its records on a few threads. TensorFlow is imported inside the functions that need records.
"""

import contextlib
import hashlib
import importlib
import json
import os
import shutil
import warnings
from pathlib import Path

import numpy as np

from kd_lib.builders import Table, layouts, pixels
from kd_lib.builders.progress import Progress
from kd_lib.files import check_room

BATCH = 256
# name -> (module, builder class, layout)
BUILDERS = {"gtsrb": ("gtsrb", "Gtsrb", layouts.GTSRB), "btsc": ("btsc", "Btsc", layouts.BTSC)}


@contextlib.contextmanager
def _plain_errors(doing, folder, advice):
    """Raise what TensorFlow says of records that are damaged as ValueError, and of a disk as an OSError that helps."""
    from tensorflow import errors

    try:
        yield
    except (errors.OpError, RuntimeError) as error:
        found = error if isinstance(error, errors.OpError) else error.__cause__  # TensorFlow Datasets wraps some
        if isinstance(found, errors.DataLossError | errors.InvalidArgumentError | errors.NotFoundError):
            raise ValueError(found.message) from error
        if isinstance(found, errors.OpError):
            raise OSError(
                f"Could not {doing} {folder}: {found.message.rpartition('; ')[2]}. {advice}, then run the same command "
                "again: what was finished before is kept."
            ) from error
        raise


class RecordSource:
    """What all builders' sources share: from records to table and pixels.

    Args:
        name: the dataset's name.
        archives_dir: folder of the archives.
        records_dir: folder for the builder's records.
    """

    has_boxes = True  # records tell the group and the sign's box

    def __init__(self, name, archives_dir, records_dir):
        self.name = name
        self.archives_dir = Path(archives_dir)
        self.records_dir = Path(records_dir)

    def _download_and_prepare(self, builder, config=None):
        for left_over in Path(builder.data_dir).parent.glob("incomplete.*"):
            shutil.rmtree(left_over, ignore_errors=True)  # from a killed run
        with _plain_errors("write", builder.data_dir, "Free some space or check permissions"):
            builder.download_and_prepare(download_config=config)
        self.builder = builder

    def table(self):
        """Return the `Table` of all photographs, in the order of the records.

        Raises:
            OSError: records cannot be read just now, or not be written; what was there is kept.
        """
        self.prepare()
        try:
            columns = self._read()
        except (ValueError, KeyError) as error:
            warnings.warn(f"{self.builder.data_dir} is damaged and is built again: {error}", stacklevel=2)
            self._rebuild()
            columns = self._read()
        return Table(class_names=tuple(self.builder.info.features["label"].names), **columns)

    def _rebuild(self):
        """Prepare anew. The old records go when there are new ones: the archives may be gone, or the disk full."""
        damaged = Path(self.builder.data_dir)
        aside = damaged.parents[1] / f"damaged-{self.name}"
        shutil.rmtree(aside, ignore_errors=True)  # from a killed run
        os.replace(damaged, aside)
        try:
            self.prepare()
        except BaseException:
            os.replace(aside, damaged)
            raise
        shutil.rmtree(aside, ignore_errors=True)

    def _read(self):
        """Read all records, images still encoded, and return the table's columns.

        The records are parsed 256 at a time: ten times as fast as `as_dataset`, which parses them one by one.
        """
        import tensorflow as tf

        scalar = {"image": tf.string, "id": tf.string, "label": tf.int64}
        features = {key: tf.io.FixedLenFeature([], dtype) for key, dtype in scalar.items()}
        if self.has_boxes:
            features |= {"group": tf.io.FixedLenFeature([], tf.int64), "roi": tf.io.FixedLenFeature([4], tf.int64)}
        self.batches, counts = [], []
        for split in ("train", "test"):
            info = self.builder.info.splits[split]
            with _plain_errors("read", self.builder.data_dir, "Close other programs or check permissions"):
                records = tf.data.TFRecordDataset([str(path) for path in info.filepaths]).batch(BATCH)
                batches = list(records.map(lambda batch: tf.io.parse_example(batch, features)).as_numpy_iterator())
            counts.append(sum(len(batch["label"]) for batch in batches))
            if counts[-1] != info.num_examples:
                raise ValueError(f"{counts[-1]} {split} records, not {info.num_examples}")
            self.batches += batches
        ids, labels = (np.concatenate([batch[key] for batch in self.batches]) for key in ("id", "label"))
        groups = np.concatenate([b["group"] for b in self.batches]) if self.has_boxes else np.arange(len(labels))
        ids = np.char.decode(ids.astype(bytes), "utf-8")
        return {"labels": labels, "groups": groups, "ids": ids, "test": np.repeat([False, True], counts)}

    def pixels(self, rows, image_size, crop):
        """Yield (row, uint8 array [image_size, image_size, 3]); after `table`, once.

        Args:
            rows: int array, one entry per entry of the table: the row wanted for it, -1 for none.
            image_size: side in pixels.
            crop: take the annotated box only.
        """

        def finish(batch):
            boxes = batch["roi"] if crop and self.has_boxes else [None] * len(batch["row"])
            return [
                (row, pixels.to_square(pixels.decode_png(image), image_size, box))
                for row, image, box in zip(batch["row"], batch["image"], boxes, strict=True)
                if row >= 0
            ]

        ends = np.cumsum([len(batch["label"]) for batch in self.batches])[:-1]
        for batch, part in zip(self.batches, np.split(rows, ends), strict=True):
            batch["row"] = part
        batches, self.batches = self.batches, []
        with Progress(f"{self.name} to arrays", int((rows >= 0).sum())) as progress:
            for done in pixels.in_parallel(finish, batches):
                yield from done
                progress.update(len(done))


class ArchiveSource(RecordSource):
    """Photographs of official archives (`BUILDERS`), through the builders of this package.

    Args:
        name, archives_dir, records_dir: as for `RecordSource`.
        layout: another `layouts.Layout`, for tests.
    """

    def __init__(self, name, archives_dir, records_dir, layout=None):
        super().__init__(name, archives_dir, records_dir)
        self.layout = layout or BUILDERS[name][2]

    def content(self, meta):
        """Return None: name and ids say which images these are."""
        return None

    def signature(self):
        """Return names and sizes of the archives, None unless all are there."""
        paths = [self.archives_dir / archive.name for archive in self.layout.archives]
        if not all(path.exists() for path in paths):
            return None
        return {path.name: path.stat().st_size for path in paths}

    def prepare(self):
        """Write the records unless they are there; download what is missing. Needs TensorFlow Datasets."""
        import tensorflow_datasets as tfds

        from kd_lib.builders import archives

        module_name, class_name, _ = BUILDERS[self.name]
        module = importlib.import_module(f"kd_lib.builders.{module_name}")
        kept = {path.parents[2].name for path in self.records_dir.glob(f"*/{self.name}/*/dataset_info.json")}
        if self.signature() is None and len(kept) == 1:  # the archives are gone, what was made of them is here
            (key,) = kept
        else:
            archives.fetch(self.layout.archives, self.archives_dir)
            # Other archives, other records: the archives' sizes are part of the path.
            key = hashlib.sha256(json.dumps(self.signature(), sort_keys=True).encode()).hexdigest()[:12]
        make = getattr(module, class_name)
        builder = make(archives_dir=self.archives_dir, layout=self.layout, data_dir=self.records_dir / key)
        if not builder.data_path.exists():
            for note in archives.note_differences(self.layout.archives, self.archives_dir):
                print(note)
            check_room(self.records_dir, archives.unpacked_size(self.layout.archives, self.archives_dir))
        tfds.disable_progress_bar()  # the builder shows one of its own instead of two nested ones
        try:
            self._download_and_prepare(builder)
        finally:
            tfds.enable_progress_bar()


class CifarSource(RecordSource):
    """CIFAR-10 or CIFAR-100 through the builder that TensorFlow Datasets has. No boxes; each image is its own group.

    The archive is looked for in, and downloaded into, the folder of archives like the others. Its builder accepts the
    official file only, byte for byte.
    """

    has_boxes = False

    def content(self, meta):
        """Return None: the checksum admits one archive only."""
        return None

    def signature(self):
        """Return None: the checksum admits one archive only."""
        return None

    def prepare(self):
        """Write the records unless they are there; download the archive if it is missing."""
        import tensorflow_datasets as tfds

        from kd_lib.builders import archives

        builder = tfds.builder(self.name, data_dir=self.records_dir, try_gcs=False)
        official = [
            archives.Archive(info.filename, url, info.checksum, int(info.size))
            for url, info in builder.url_infos.items()
            if url == builder._cifar_info.url
        ]
        if not builder.data_path.exists():
            archives.fetch(official, self.archives_dir)
            if archives.note_differences(official, self.archives_dir):
                raise archives.bad_archive(self.archives_dir / official[0].name, "it is not the official file")
        config = tfds.download.DownloadConfig(manual_dir=self.archives_dir, try_download_gcs=False)
        self._download_and_prepare(builder, config)
