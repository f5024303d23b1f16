"""The card of a network that ships with the package: written from its result row, so that no number is typed."""

from kd_lib.results.tables import wilson_interval


def card(row, *, title, purpose, limits, stored=None, more=None):
    """Return the Markdown text of a card.

    Args:
        row: a tested results row.
        title: first line.
        purpose: what it is for, one paragraph.
        limits: what it is not for, one paragraph.
        stored: how its weights are stored; None for float16.
        more: dict of further lines, or None.

    Returns:
        str

    Raises:
        ValueError: the row has no test result.
    """
    if row["test_errors"] is None:
        raise ValueError(f"a card needs a tested network; no test image was shown to {row['model']}")
    low, high = wilson_interval(row["test_size"] - row["test_errors"], row["test_size"])
    size, part = row["image_size"], "cropped to the sign" if row["crop"] else "whole image"
    learned = "training and validation parts" if row["refit"] else "training part"
    facts = {
        "network": f"{row['model']}, {row['params']:,} parameters, {row['macs'] / 1e6:.1f} M multiply-adds an image",
        "stored": stored or f"{row['bytes'] / 1e3:,.0f} kB of float16 weights",
        "input": f"{size} x {size} pixels, {part}, RGB 0..255; answers logits",
        "data": f"{row['dataset']}, {learned} of a split by physical sign"
        + (f", and {row['config']['drawn']:,} drawn signs" if row["config"].get("drawn") else ""),
        "seed": row["seed"],
        **({"teacher": row["teacher"]} if row["teacher"] else {}),
        "training": f"{row['epochs']} epochs, {row['seconds'] / 60:.0f} min on {row['device']} ({row['backend']})",
        "validation accuracy": f"{row['validation_accuracy']:.2%}" + (", seen in training" if row["refit"] else ""),
        "test accuracy": f"{row['test_accuracy']:.2%} ({row['test_errors']} errors of {row['test_size']:,} images; "
        f"95 % interval {low:.2%} to {high:.2%})",
        "made by": f"`{row['command']}`",
        **(more or {}),
    }
    lines = [f"| {name} | {value} |" for name, value in facts.items()]
    return "\n".join([f"# {title}", "", purpose, "", "| | |", "|---|---|", *lines, "", f"**Not for**: {limits}", ""])
