"""What the official archives of GTSRB and BTSC must contain, and the list of photographs found in them.

Both datasets have one folder per class with a CSV beside the images (`Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;
Roi.Y2;ClassId`), except GTSRB's test images, whose labels lie in an archive of their own. `Layout.index` reads the
lists and CSVs only, no pixels, and refuses an archive that lacks a class, a row or an image. File names begin with the
number of the physical sign: GTSRB's track (30 frames of one sign from a driving car), BTSC's pole.
"""

import csv
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kd_lib.builders.archives import Archive, bad_archive, open_archive, read_entry

ERDA = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/"
BTSD = "https://btsd.ethz.ch/shareddata/BelgiumTSC/"


class Photo(NamedTuple):
    """One photograph: its archive and entry, its id, label and group, and the sign's box (x1, y1, x2, y2) in pixels."""

    archive: str
    entry: str
    id: str
    label: int
    group: int
    roi: tuple


@dataclass(frozen=True)
class Layout:
    """The archives of a dataset and what they must hold; replace fields to test with small archives of your own."""

    name: str
    archives: tuple
    classes: int
    train: int
    test: int
    reader: Callable

    def index(self, folder):
        """Check the archives in `folder` and list their photographs.

        Returns:
            dict "train" -> list of `Photo`, "test" -> list of `Photo`.

        Raises:
            ValueError: names the archive that is damaged or does not hold what it should.
        """
        return self.reader(self, Path(folder))


def _rows(archive, entry, classes):
    """Yield (file name, label, roi) of one CSV; the label is None where there is no ClassId column."""
    text = read_entry(archive, entry).decode("utf-8-sig", errors="replace")
    for number, row in enumerate(csv.DictReader(io.StringIO(text), delimiter=";"), start=2):
        try:
            label = int(row["ClassId"])
            roi = tuple(int(row[key]) for key in ("Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2"))
            name = row["Filename"].strip()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise bad_archive(archive.filename, f"line {number} of {entry} cannot be read ({error!r})") from error
        if not 0 <= label < classes:
            raise bad_archive(archive.filename, f"line {number} of {entry} has class {label}, outside 0..{classes - 1}")
        yield name, label, roi


def _images(archive):
    return {name for name in archive.namelist() if name.lower().endswith(".ppm")}


def _count(path, found, expected, what):
    if found != expected:
        raise bad_archive(path, f"it holds {found:,} {what}, not {expected:,}")


def _class_folders(layout, path, count):
    """List an archive of class folders, each with its own CSV."""
    photos = {}  # by entry: some of BTSC's CSVs list an image twice
    with open_archive(path) as archive:
        images = _images(archive)
        tables = sorted(name for name in archive.namelist() if re.search(r"(^|/)(\d{5})/GT-\2\.csv$", name))
        _count(path, len(tables), layout.classes, "class folders with a CSV")
        for table in tables:
            folder = table.rsplit("/", 1)[0]
            for name, label, roi in _rows(archive, table, layout.classes):
                entry = f"{folder}/{name}"
                if label != int(folder[-5:]):
                    raise bad_archive(path, f"{entry} lies in folder {folder[-5:]} and is labelled {label}")
                if entry not in images:
                    raise bad_archive(path, f"{table} lists {name}, and {entry} is not there")
                try:
                    group = label * 100_000 + int(name.split("_")[0])
                except ValueError as error:
                    raise bad_archive(path, f"{entry} is not named like 00001_00002.ppm") from error
                photos[entry] = Photo(path.name, entry, f"{folder[-5:]}/{name}", label, group, roi)
    # Each listed image exists, so equal numbers mean that each image is listed.
    _count(path, len(photos), len(images), "images in its CSVs")
    _count(path, len(photos), count, "images")
    return sorted(photos.values(), key=lambda photo: photo.id)


_TEST_GROUPS = 10_000_000  # above all of training


def _gtsrb(layout, folder):
    training, testing, truth = (folder / archive.name for archive in layout.archives)
    photos = _class_folders(layout, training, layout.train)
    test = {}
    with open_archive(testing) as images, open_archive(truth) as labels:
        entries = {name.rsplit("/", 1)[-1]: name for name in _images(images)}
        tables = [name for name in labels.namelist() if name.endswith(".csv")]
        _count(truth, len(tables), 1, "CSV files")
        for name, label, roi in _rows(labels, tables[0], layout.classes):
            if name not in entries:
                raise bad_archive(testing, f"{name}, listed in {truth.name}, is not there")
            if name in test:
                raise bad_archive(truth, f"{tables[0]} lists {name} twice")
            test[name] = Photo(testing.name, entries[name], name, label, _TEST_GROUPS + len(test), roi)
        _count(truth, len(test), layout.test, "labels")
        _count(testing, len(entries), layout.test, "images")
    return {"train": photos, "test": list(test.values())}


def _btsc(layout, folder):
    training, testing = (folder / archive.name for archive in layout.archives)
    return {
        "train": _class_folders(layout, training, layout.train),
        "test": _class_folders(layout, testing, layout.test),
    }


GTSRB = Layout(
    name="gtsrb",
    archives=(
        Archive(
            "GTSRB_Final_Training_Images.zip",
            ERDA + "GTSRB_Final_Training_Images.zip",
            "d32ac4b5fa9a1cbd1994768413902e8193599d9434cf0a8eb9cfd00a6d3a290c",
            276_294_756,
        ),
        Archive(
            "GTSRB_Final_Test_Images.zip",
            ERDA + "GTSRB_Final_Test_Images.zip",
            "48ba6fab7e877eb64eaf8de99035b0aaecfbc279bee23e35deca4ac1d0a837fa",
            88_978_620,
        ),
        Archive(
            "GTSRB_Final_Test_GT.zip",
            ERDA + "GTSRB_Final_Test_GT.zip",
            "f94e5a7614d75845c74c04ddb26b8796b9e483f43541dd95dd5b726504e16d6d",
            99_620,
        ),
    ),
    classes=43,
    train=39_209,
    test=12_630,
    reader=_gtsrb,
)

BTSC = Layout(
    name="btsc",
    # The publisher gives no checksums and sizes: only the content is checked.
    archives=(
        Archive("BelgiumTSC_Training.zip", BTSD + "BelgiumTSC_Training.zip"),
        Archive("BelgiumTSC_Testing.zip", BTSD + "BelgiumTSC_Testing.zip"),
    ),
    classes=62,
    train=4_575,
    test=2_520,
    reader=_btsc,
)
