"""From picture files to named answers: what `predict` and the server share. Loads no TensorFlow.

A picture of any format, size and colour mode becomes the square that the network was trained on; logits become
confidences by the temperature that validation images asked for (see `evaluation.fit_temperature`), and a confidence
below the network's threshold means: perhaps no sign at all. Left out: finding signs in a street scene; a picture is
taken to show one sign and little else.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from kd_lib.builders import pixels
from kd_lib.litert import Classifier

SHIPPED = Path(__file__).parent / "pretrained" / "gtsrb_student.tflite"
MAX_PIXELS = 40_000_000  # a phone's photograph has 12 to 24 million; 4 bytes each in memory
SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".ppm", ".pgm", ".pbm", ".pnm", ".webp", ".bmp", ".gif", ".tif", ".tiff")


@dataclass(frozen=True)
class Answer:
    """What a network says about one picture.

    Attributes:
        classes: int array [classes], from the likeliest to the least likely.
        confidences: float array [classes], their probabilities, 0 to 1.
        rejected: bool, whether the first confidence is below the network's threshold.
    """

    classes: np.ndarray
    confidences: np.ndarray
    rejected: bool


class Recognizer:
    """A .tflite network with what it takes to show it any picture.

    Attributes:
        class_names: tuple of str.
        temperature: by which logits are divided.
        threshold: confidence below which a picture is perhaps no sign; None if the file states none.

    Args:
        path: the .tflite file; None for the student that comes with the package.
        threads: of one answer.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, no .tflite file, not for square images, or of classes without names.
    """

    def __init__(self, path=None, *, threads=1):
        if path is None and not SHIPPED.exists():
            raise FileNotFoundError(
                f"no student at {SHIPPED}. Make one with `python -m kd_lib export`, and name the file with --model."
            )
        path = SHIPPED if path is None else Path(path)
        self.path, self.classifier = path, Classifier(path, threads=threads)
        height, width = self.classifier.image_size
        if height != width:
            raise ValueError(f"{path} takes images of {width} x {height} pixels; only squares are supported.")
        self.size, facts = height, self.classifier.facts
        names = facts.get("class_names") or _german_signs()
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{path} states class names that are no list of texts: {names!r:.80}")
        self.class_names = tuple(names)
        if len(self.class_names) != self.classifier.num_classes:
            raise ValueError(
                f"{path} has {self.classifier.num_classes} classes, but {len(self.class_names)} names are known for "
                'them. Export it with their names: litert.export(..., facts={"class_names": [...]}).'
            )
        self.temperature, self.threshold = facts.get("temperature", 1.0), facts.get("threshold")
        sound = _number(self.temperature) and self.temperature > 0
        if not sound or not (self.threshold is None or (_number(self.threshold) and 0 <= self.threshold <= 1)):
            raise ValueError(
                f"{path} states a temperature of {self.temperature!r} and a threshold of {self.threshold!r}: the first "
                "must be a positive number, the second a number from 0 to 1 or null."
            )
        self.answer(np.zeros((1, height, width, 3), np.uint8))  # numbers that are none show here, not in a request

    def pixels(self, data, max_pixels=MAX_PIXELS):
        """Return the number of pixels that decoding a picture file would fill, read from its header alone.

        Raises:
            ValueError: empty, not a picture, or of more than `max_pixels`.
        """
        if not data:
            raise ValueError("the file is empty")
        try:
            picture = pixels.open_picture(data)
            tiles = getattr(picture, "tag_v2", {})  # a TIFF file may have tiles larger than its picture
            width, height = (max(size, tiles.get(tag, 0)) for size, tag in zip(picture.size, (322, 323), strict=True))
        except Image.DecompressionBombError as error:
            raise ValueError(f"far too many pixels; at most {max_pixels:,} are taken") from error
        except Exception as error:  # damaged files make decoders fail in every way there is
            raise ValueError("not a picture in a format that is known here (PNG, JPEG, PPM, WEBP, BMP...)") from error
        if width * height > max_pixels:
            raise ValueError(f"{width} x {height} pixels; at most {max_pixels:,} are taken")
        return width * height

    def read(self, data, max_pixels=MAX_PIXELS):
        """Return uint8 [size, size, 3] for the bytes of a picture file.

        Raises:
            ValueError: empty, not a picture, truncated, or of more than `max_pixels`.
        """
        self.pixels(data, max_pixels)
        try:
            return pixels.to_square(pixels.decode(data), self.size)
        except Exception as error:
            raise ValueError(f"truncated or damaged ({error})") from error

    def answer(self, images):
        """Return a list of `Answer`, one for each of the images uint8 [n, size, size, 3]."""
        logits = self.classifier.predict(images).astype(np.float64) / self.temperature
        if not np.isfinite(logits).all():
            raise ValueError(f"{self.path} answers with numbers that are none: it is damaged.")
        found = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
        found /= found.sum(axis=1, keepdims=True)
        order = np.argsort(-found, axis=1, kind="stable")
        return [
            Answer(classes, row[classes], self.threshold is not None and bool(row[classes[0]] < self.threshold))
            for row, classes in zip(found, order, strict=True)
        ]

    def describe(self, answer, *, top=1, names=False, reject=False):
        """Return an answer as plain values.

        Args:
            answer: `Answer`.
            top: number of classes; above 1 they are listed.
            names: add the names of classes.
            reject: say whether it is perhaps no sign; then it has no class.

        Returns:
            dict: "class" (None if rejected), "confidence", with `names` "name", with `top` above 1 the list "top" of
            the same for each class, with `reject` the bool "rejected".
        """

        def entry(place):
            label = int(answer.classes[place])
            found = {"class": label, "confidence": round(float(answer.confidences[place]), 4)}
            return found | ({"name": self.class_names[label]} if names else {})

        found = entry(0)
        if top > 1:
            found["top"] = [entry(place) for place in range(min(top, len(answer.classes)))]
        if reject:
            found |= {"rejected": answer.rejected} | ({"class": None} if answer.rejected else {})
        return found


def _number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _german_signs():
    from kd_lib.signs import CLASS_NAMES

    return CLASS_NAMES


def _is_picture(file):
    return file.suffix.lower() in SUFFIXES and file.is_file()


def find_pictures(places):
    """Return the files that are meant by files, folders (with all below them) and patterns such as "*.png".

    A file that is named itself is taken whatever its name ends in; in folders and patterns, picture files are.

    Args:
        places: list of str.

    Returns:
        list of str, each file once, in the order of `places`, sorted within each. What does not exist is in it too,
        and a folder or pattern without pictures: their reader reports them.
    """
    import glob

    found = {}
    for place in places:
        try:
            path = Path(place)
            path = path if path.exists() else path.expanduser()
            if path.is_dir():
                files = sorted(str(file) for file in path.rglob("*") if _is_picture(file))
            elif not path.exists() and glob.has_magic(place):
                files = sorted(file for file in glob.glob(str(path), recursive=True) if _is_picture(Path(file)))
            else:
                files = [str(path)]
        except (OSError, RuntimeError):  # a name too long, a folder that may not be read, ~ of nobody
            files = []
        found |= dict.fromkeys(files or [place])
    return list(found)
