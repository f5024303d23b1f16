"""The command `python -m kd_lib predict`: name the signs in picture files. Loads no TensorFlow."""

import json
import sys
from pathlib import Path

from tqdm import tqdm

from kd_lib.recognition import Recognizer, find_pictures

_MANY = 20  # pictures from which on a progress bar is worth its line


def predict(places, *, model=None, top=1, as_json=False, reject=False):
    """Print file, class, name and confidence of each picture; what cannot be read is reported and the rest goes on.

    Args:
        places: list of str: files, folders and patterns.
        model: path of a .tflite file; None for the student that comes with the package.
        top: number of classes to name for each picture.
        as_json: print one JSON list instead of lines of text: {"file", "class", "confidence", "name"} and, with `top`
            above 1, "top"; or {"file", "error"}.
        reject: say "no sign" where the confidence is below the network's threshold.

    Returns:
        int, exit code: 0 if every picture was read, 1 if not.

    Raises:
        FileNotFoundError, ValueError: the network cannot be used, no picture was found, or top is below 1.
    """
    if top < 1:
        raise ValueError(f"top must be at least 1. Received: {top}")
    recognizer = Recognizer(model)
    if reject and recognizer.threshold is None:
        raise ValueError(f"{recognizer.path} states no threshold: it cannot say what is no sign.")
    files = find_pictures(places)
    if not files:
        raise ValueError(f"no picture found in {', '.join(places)}")
    width = min(max(map(len, files)), 60)
    found = []
    for file in tqdm(files, unit="picture", leave=False, disable=None if len(files) >= _MANY else True):
        try:
            image = recognizer.read(Path(file).read_bytes())
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            found.append({"file": file, "error": reason})
            tqdm.write(f"{file}: {reason}", file=sys.stderr)
            continue
        answer = recognizer.answer(image[None])[0]
        entry = {"file": file} | recognizer.describe(answer, top=top, names=True)
        if reject:
            entry["rejected"] = answer.rejected
        found.append(entry)
        if not as_json:
            tqdm.write(_text(entry, width), file=sys.stdout)
    if as_json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
    return int(any("error" in entry for entry in found))


def _text(entry, width):
    rows = entry.get("top", [entry])
    lines = [f"{row['class']:>3}  {row['name']:<32} {row['confidence']:7.2%}" for row in rows]
    if entry.get("rejected"):
        lines[0] += "  perhaps no sign"
    return "\n".join(f"{entry['file'] if not place else '':<{width}} {line}" for place, line in enumerate(lines))
