"""From a trained student to the file that ships: int8, honest confidences, and a threshold for what is no sign.

Everything is chosen on validation images and on pictures without signs; the test images are read once, at the end, for
the row and the card. Left out: how the student was trained (`kd_lib.course`), and running the file (`kd_lib.litert`).
"""

import math
from pathlib import Path

import numpy as np

from kd_lib import evaluation, litert, no_signs, results
from kd_lib.files import writing

REJECTED_SIGNS = 0.01  # share of validation signs that the threshold may turn away
_NO_SIGNS = 2000  # pictures of each kind


def ship(run, dataset, path):
    """Export a quantisation-aware student with class names, temperature and threshold inside the file.

    Args:
        run: Run of a model made by `quantization.quantize_aware`.
        dataset: Dataset it was trained on; its validation images decide temperature and threshold.
        path: the .tflite file.

    Returns:
        dict, the facts inside the file: "class_names", "temperature", "threshold".
    """
    path = litert.export(run.model, path)
    report = evaluation.evaluate(path, dataset.validation)
    temperature = evaluation.fit_temperature(report) if report.errors else 1.0  # without an error nothing can be fitted
    sure = report.at_temperature(temperature)
    facts = {
        "class_names": list(dataset.class_names),
        "temperature": round(temperature, 4),
        "threshold": math.floor(1e4 * np.quantile(sure.confidence, REJECTED_SIGNS)) / 1e4,
    }
    litert.attach(path, facts)
    return facts


def measure(path, dataset, teacher=None):
    """Read the test images with a shipped file, once.

    Args:
        path: the .tflite file, made by `ship`.
        dataset: Dataset with the test images.
        teacher: what `evaluate` takes, for the agreement.

    Returns:
        (Report with the file's confidences, dict of numbers for the card: "ece_before", "ece", "rejected_signs", and
        "accepted", a dict from kind of picture without a sign to the share that passes for a sign).
    """
    classifier = litert.Classifier(path)
    temperature, threshold = classifier.facts["temperature"], classifier.facts["threshold"]
    raw = evaluation.evaluate(path, dataset.test, teacher=teacher)
    report = raw.at_temperature(temperature)
    accepted = {}
    for kind in no_signs.KINDS:
        logits = classifier.predict(no_signs.draw(kind, _NO_SIGNS, image_size=classifier.image_size[0], seed=1))
        zeros = np.zeros(len(logits), np.int64)
        shown = evaluation.Report(logits, zeros, zeros).at_temperature(temperature)
        accepted[kind] = float(np.mean(shown.confidence >= threshold))
    rejected = float(np.mean(report.confidence < threshold))
    return report, {"ece_before": raw.ece, "ece": report.ece, "rejected_signs": rejected, "accepted": accepted}


def write_card(path, row, numbers, report, class_names, facts, float_row=None):
    """Write the card of a shipped file beside it, as Markdown: every number comes from the rows and reports.

    Args:
        path: the .tflite file; its card has the same name and ends in .md.
        row: its results row.
        numbers: from `measure`.
        report: Report of the test images.
        class_names: names of the classes.
        facts: from `ship`.
        float_row: results row of the float network that it was made from, or None.
    """
    accepted = ", ".join(f"{share:.1%} of {kind}" for kind, share in numbers["accepted"].items())
    more = {
        "the same in float32": f"{float_row['test_accuracy']:.2%} ({float_row['test_errors']} errors), trained for "
        f"{float_row['epochs']} epochs, {float_row['seconds'] / 60:.0f} min, before the {row['epochs']} with rounding"
        if float_row
        else "not measured",
        "calibration": f"logits are divided by {facts['temperature']} (fitted on validation images); expected "
        f"calibration error on the test {numbers['ece_before']:.4f} before, {numbers['ece']:.4f} after",
        "no sign?": f"below a confidence of {facts['threshold']} it is better to say so: that turns away "
        f"{numbers['rejected_signs']:.1%} of the test's signs, and lets pass as signs {accepted}",
    }
    text = results.card(
        row,
        title="The student",
        purpose="A network for `python -m kd_lib predict` and `serve`: 8-bit integers from the first operator to "
        "the last, run by LiteRT.",
        limits="vehicles, or anything else where a wrong answer costs more than a laugh. It knows "
        f"{len(class_names)} classes, one a picture, cut close; it does not find signs in a street scene.",
        stored=f"{row['bytes'] / 1e3:,.1f} kB, int8",
        more=more,
    )
    recalls = [
        f"| {label} | {name} | {'–' if math.isnan(recall) else f'{recall:.1%}'} |"
        for label, (name, recall) in enumerate(zip(class_names, report.per_class, strict=True))
    ]
    table = ["", "## Recall of each class", "", "| | class | recall |", "|---|---|---|", *recalls, ""]
    with writing(Path(path).with_suffix(".md")) as temporary:
        temporary.write_text(text + "\n".join(table), encoding="utf-8")
