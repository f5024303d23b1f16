"""A folder of the user's own images as a source: one subfolder per class, or images and a CSV (`filename,label`).

The content of a file decides its format, not its name. Files that cannot be read are reported and left out. There is no
official test set, so 15 % of each class are held out for one, always the same; the seed decides the validation images
only. Each image is its own group: photographs of one object are not recognised as such.
"""

import csv
import hashlib
import io
from pathlib import Path

import numpy as np

from kd_lib.builders import Table, pixels
from kd_lib.builders.progress import Progress
from kd_lib.scale import data_name, home

BATCH = 32
SHOWN = 5  # files named in a report


class FolderSource:
    """Images below one folder.

    Args:
        folder: path of the folder.
    """

    def __init__(self, folder):
        self.folder = Path(folder).expanduser().resolve()
        self.name = data_name(str(self.folder))

    def _files(self):
        found = [path for path in self.folder.rglob("*") if path.is_file()]
        kept = home().resolve()
        if kept.is_relative_to(self.folder) and kept != self.folder:  # what is made of the images is none of them
            found = [path for path in found if not path.is_relative_to(kept)]
        return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(self.folder).parts))

    def content(self, meta):
        """Return what a network's key says of the images: the signature of the files that the cache was made from."""
        return meta["signature"]

    def signature(self):
        """Return a hash of names, sizes and times of all files."""
        digest = hashlib.sha256()
        for path in self._files():
            facts = path.stat()
            digest.update(f"{path.relative_to(self.folder)} {facts.st_size} {facts.st_mtime_ns}\n".encode())
        return {"files": digest.hexdigest()[:16]}

    def table(self):
        """Return the `Table` of all images; prints what is left out.

        Raises:
            ValueError: if no images, or only one class, are found; says how the folder must look.
        """
        tables = sorted(path for path in self.folder.glob("*.csv"))
        if len(tables) > 1:
            raise ValueError(
                f"{self.folder} holds {len(tables)} CSV files ({', '.join(p.name for p in tables)}); keep one"
            )
        listed = self._from_csv(tables[0]) if tables else self._from_subfolders()
        names = {name for _, name in listed}
        if len(names) < 2:
            raise ValueError(
                f"{self.folder} has {len(listed)} images of {len(names)} classes; at least 2 classes are needed. Put "
                "each class's images into a subfolder, or a CSV with the columns filename,label beside the images"
            )
        # Labels that are all numbers are ordered as numbers: 2 comes before 10.
        number = all(name.lstrip("-").isdigit() for name in names)
        class_names = tuple(sorted(names, key=int if number else str))
        order = {name: label for label, name in enumerate(class_names)}
        self.paths = [path for path, _ in listed]
        return Table(
            labels=np.array([order[name] for _, name in listed], np.int32),
            groups=np.arange(len(listed), dtype=np.int32),
            ids=np.array([path.relative_to(self.folder).as_posix() for path in self.paths]),
            test=None,
            class_names=class_names,
        )

    def _from_subfolders(self):
        files = [(path, path.relative_to(self.folder).parts) for path in self._files()]
        return [(path, parts[0]) for path, parts in files if len(parts) > 1]

    def _from_csv(self, table):
        by_name = {}
        for path in self._files():
            by_name.setdefault(path.name, []).append(path)
        listed, missing = {}, []
        try:
            text = table.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{table} cannot be read ({error}); save it as UTF-8") from error
        reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
        if not {"filename", "label"} <= set(reader.fieldnames or ()):
            raise ValueError(f"{table} needs the columns filename and label; it has {reader.fieldnames}")
        for row in reader:
            name, label = (row["filename"] or "").strip(), (row["label"] or "").strip()
            if not name or not label:
                raise ValueError(f"line {reader.line_num} of {table} needs a filename and a label; it has {row}")
            path = (self.folder / name).resolve()
            if not path.is_file():  # a bare name may stand for a file in a subfolder, if it is the only one
                same = by_name.get(name, [])
                path = same[0] if len(same) == 1 else path
            if not path.is_file() or not path.is_relative_to(self.folder):
                missing.append(name)
            elif listed.setdefault(path, label) != label:
                raise ValueError(f"{table} gives {name} two labels: {listed[path]} and {label}")
        _report(f"{table.name} lists", missing, "that are not in the folder")
        return sorted(listed.items())

    def pixels(self, rows, image_size, crop):
        """Yield (row, uint8 array [image_size, image_size, 3]) for the files that can be read; reports the others.

        Args:
            rows: int array, one entry per entry of the table: the row wanted for it, -1 for none.
            image_size: side in pixels.
            crop: has no effect, there are no boxes.
        """

        def read(chosen):
            done = []
            for index in chosen:
                try:
                    image = pixels.to_square(pixels.decode(self.paths[index].read_bytes()), image_size)
                except pixels.UNREADABLE:
                    image = None
                done.append((index, image))
            return done

        unreadable = []
        wanted = np.flatnonzero(rows >= 0)
        blocks = (wanted[start : start + BATCH] for start in range(0, len(wanted), BATCH))
        with Progress(f"{self.name} to arrays", len(wanted)) as progress:
            for done in pixels.in_parallel(read, blocks):
                for index, image in done:
                    if image is None:
                        unreadable.append(self.paths[index].relative_to(self.folder).as_posix())
                    else:
                        yield rows[index], image
                progress.update(len(done))
        _report("left out", unreadable, "that cannot be read as images")


def _report(before, names, after):
    if names:
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        print(f"{before} {len(names)} files {after}: {', '.join(names[:SHOWN])}{more}")
