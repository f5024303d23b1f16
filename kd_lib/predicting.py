"""The command `python -m kd_lib predict`: name the signs in picture files. Loads no TensorFlow."""

import json
import os
import sys

from tqdm import tqdm

from kd_lib.recognition import Recognizer, find_pictures

MAX_BYTES = 200_000_000  # of one file; a picture of 40 million pixels has 160 million at most
_MANY = 20  # pictures from which on a progress bar is worth its line


def predict(places, *, model=None, top=1, as_json=False, reject=False):
    """Print file, class, name and confidence of each picture; what cannot be read is reported and the rest goes on.

    Args:
        places: list of str: files, folders and patterns.
        model: path of a .tflite file; None for the student that comes with the package.
        top: number of classes to name for each picture.
        as_json: print one JSON list instead of lines of text: {"file", "class", "confidence", "name"} and, with `top`
            above 1, "top", and with `reject` "rejected"; or {"file", "error"}.
        reject: say "perhaps no sign", and class null in JSON, where the confidence is below the network's threshold.

    Returns:
        int, exit code: 0 if every picture was read, 1 if not.

    Raises:
        FileNotFoundError, ValueError: the network cannot be used, or top is below 1.
    """
    if top < 1:
        raise ValueError(f"top must be at least 1. Received: {top}")
    for stream in (sys.stdout, sys.stderr):  # a file's name may hold what the terminal's encoding lacks
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    recognizer = Recognizer(model)
    if reject and recognizer.threshold is None:
        raise ValueError(f"{recognizer.path} states no threshold: it cannot say what is no sign.")
    files = find_pictures(places)
    width = min(max(map(len, files)), 60)
    found = []
    for file in tqdm(files, unit="picture", leave=False, disable=None if len(files) >= _MANY else True):
        try:
            if os.path.isdir(file):
                raise ValueError("there is no picture in this folder")
            with open(file, "rb") as opened:
                data = opened.read(MAX_BYTES + 1)
            if len(data) > MAX_BYTES:
                raise ValueError(f"more than {MAX_BYTES:,} bytes")
            image = recognizer.read(data)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            found.append({"file": _printable(file), "error": reason})
            tqdm.write(f"{_printable(file)}: {reason}", file=sys.stderr)
            continue
        answer = recognizer.answer(image[None])[0]
        found.append({"file": _printable(file)} | recognizer.describe(answer, top=top, names=True, reject=reject))
        entry = found[-1]
        if not as_json:
            tqdm.write(_text(entry, width), file=sys.stdout)
    if as_json:
        print(json.dumps(found, indent=1, ensure_ascii=True))
    return int(any("error" in entry for entry in found))


def _printable(file):
    """A file's name as text that any output takes: what is no character is written as its code."""
    return file.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _text(entry, width):
    rows = entry.get("top", [entry])
    shown = [("-" if row["class"] is None else row["class"], row) for row in rows]
    lines = [f"{label:>3}  {row['name']:<32} {row['confidence']:7.2%}" for label, row in shown]
    if entry.get("rejected"):
        lines[0] += "  perhaps no sign"
    return "\n".join(f"{entry['file'] if not place else '':<{width}} {line}" for place, line in enumerate(lines))
