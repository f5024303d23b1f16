"""One row of results.json: a trained model and seed, checked before it is written."""

import hashlib
import json

from kd_lib.keys import LATER
from kd_lib.results.environment import environment

_NUMBER, _NONE = (int, float), type(None)
# Every field of a row and the types that it may hold; a bool never passes for a number.
FIELDS = {
    "model": str, "method": str, "teacher": (str, _NONE), "dataset": str, "crop": bool, "image_size": int,
    "scale": str, "seed": int, "epochs": int, "params": (int, _NONE), "macs": (int, _NONE), "bytes": int,
    "validation_accuracy": (*_NUMBER, _NONE), "test_accuracy": (*_NUMBER, _NONE), "test_errors": (int, _NONE),
    "test_size": (int, _NONE), "wrong": (list, _NONE), "agreement": (*_NUMBER, _NONE), "refit": bool,
    "weights": (str, _NONE), "config": dict, "seconds": _NUMBER, "device": str, "backend": (str, _NONE),
    "command": str, "commit": (str, _NONE), "versions": dict,
}  # fmt: skip
GROUP = ("model", "method", "teacher", "dataset", "crop", "image_size", "scale", "refit", "weights")
# The rows of the README's figure: the run that is committed.
COMMITTED = {"dataset": "gtsrb", "scale": "full", "crop": False}
_TEST = ("test_accuracy", "test_errors", "test_size", "wrong")


def recipe(row):
    """Return how a row's network was trained, but for its seed, as text: only rows of one recipe may be averaged."""
    of_the_seed = ("seed", "key", "start")  # a pruned network starts from that of its seed
    settings = {name: value for name, value in (LATER | row["config"]).items() if name not in of_the_seed}
    return json.dumps(settings, sort_keys=True)


def side_of(row):
    """Return what a comparison notes of the rows that it was made from: their group, recipe and test images."""
    digits = hashlib.sha256(recipe(row).encode()).hexdigest()[:12]
    return {key: row[key] for key in GROUP} | {"test_size": row["test_size"], "recipe": digits}


def contradicts(row, comparison):
    """Whether a tested row is of a group that a comparison is about, but of another recipe or tested on other images.

    A comparison that was written before it noted recipes is contradicted by every row of its groups.
    """
    if row["test_size"] is None:
        return False
    side = side_of(row)
    return any(
        side != compared and all(side[key] == compared[key] for key in GROUP)
        for compared in (comparison["a"], comparison["b"])
    )


def stands_on(comparison, rows):
    """Whether both groups of a comparison are among the rows, and no row contradicts it."""
    sides = [side_of(row) for row in rows]
    both = comparison["a"] in sides and comparison["b"] in sides
    return both and not any(contradicts(row, comparison) for row in rows)


def validate(row):
    """Check one row and return it with plain Python values, in the order of `FIELDS`.

    Args:
        row: dict with exactly the keys of `FIELDS`; NumPy numbers are accepted.

    Returns:
        A new dict that json can write.

    Raises:
        ValueError: a field is unknown, missing, of the wrong type, or contradicts another.
    """
    unknown, missing = sorted(set(row) - set(FIELDS)), sorted(set(FIELDS) - set(row))
    if unknown or missing:
        raise ValueError(f"a results row has the fields of results.FIELDS; unknown: {unknown}, missing: {missing}")
    try:
        plain = json.dumps(row, allow_nan=False, default=lambda value: value.tolist())  # tolist: NumPy values
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"a results row must hold finite, plain JSON values: {error}") from error
    values = json.loads(plain)
    row = {field: values[field] for field in FIELDS}
    for field, types in FIELDS.items():
        if not isinstance(row[field], types) or (isinstance(row[field], bool) and types is not bool):
            raise ValueError(f"results field {field!r} cannot be {row[field]!r}; expected {types}")
    nulls = [row[field] is None for field in _TEST]
    if any(nulls) != all(nulls):
        raise ValueError(f"the test fields {_TEST} are all null (validation only) or all given, got nulls {nulls}")
    if not nulls[0]:
        expected = 1 - row["test_errors"] / row["test_size"] if row["test_size"] else -1
        if len(row["wrong"]) != row["test_errors"] or abs(row["test_accuracy"] - expected) > 1e-6:
            raise ValueError(
                f"test fields contradict each other: accuracy {row['test_accuracy']}, {row['test_errors']} errors of "
                f"{row['test_size']}, {len(row['wrong'])} ids in wrong"
            )
    return row


def make_row(*, report=None, **fields):
    """Build one row of results.json: a trained model and seed.

    Args:
        report: the `Report` of the official test set; fills the test fields and "agreement". None: validation only.
        **fields: the other fields of `FIELDS`; "device", "backend", "commit" and "versions" are gathered if absent,
            "teacher", "macs", "weights" and "agreement" default to None, "crop" and "refit" to False.

    Returns:
        A checked dict.

    Raises:
        ValueError: a field is unknown, missing or wrong.
    """
    row = dict.fromkeys((*_TEST, "teacher", "macs", "weights", "agreement"))
    row |= {"crop": False, "refit": False, **environment()}
    if report is not None:
        row |= {"test_accuracy": report.accuracy, "test_errors": report.errors, "test_size": len(report.labels)}
        row |= {"wrong": list(report.wrong), "agreement": report.agreement}
    return validate(row | fields)
