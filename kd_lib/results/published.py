"""Published results on the same test images: the marks that ours stand beside."""

from typing import NamedTuple


class Mark(NamedTuple):
    """A published GTSRB result: `params` is None for a person, `accuracy` is in percent of the official test."""

    name: str
    params: int | None
    accuracy: float
    note: str


PUBLISHED = (
    Mark("person", None, 98.84, "average of people"),
    Mark("Zhang 2019, student", 800_000, 99.61, "the one reproduction found: 97.17 %"),
    Mark("Arcos-García 2018", 14_600_000, 99.71, "48 px, three spatial transformers"),
    Mark("Cireşan 2012, 25 nets", 38_500_000, 99.46, "25 networks vote"),
    Mark("qNet 2019", 290_000, 99.4, ""),
    Mark("sqNet 2019", 45_000, 99.0, "7 M MACs"),
    Mark("MicronNet 2018", 510_000, 98.9, ""),
    Mark("public CNN + API", 356_000, 99.24, "validated on a random split"),
)
