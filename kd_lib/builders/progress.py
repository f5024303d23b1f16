"""One line that tells how far a long step is. Plain output, so that it works in terminals, notebooks and log files."""

import sys
import time


class Progress:
    """Count finished units and print them now and then; use it as a context manager.

    A terminal gets one line that is rewritten four times a second; a notebook or a file gets a new line every ten
    seconds, so quick steps print nothing there.

    Args:
        title: what is being done.
        total: number of units; None if unknown.
        unit: name of the units.
        start: units that were done before.
        scale: units are divided by this for printing.
    """

    def __init__(self, title, total, unit="images", start=0, scale=1):
        self.title, self.total, self.unit, self.scale = title, total, unit, scale
        self.done = start
        self.began = self.printed = time.monotonic()
        self.terminal = sys.stdout.isatty()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.terminal:
            self._print("\n")

    def update(self, count):
        """Add finished units."""
        self.done += count
        now = time.monotonic()
        if now - self.printed > (0.25 if self.terminal else 10):
            self.printed = now
            self._print("" if self.terminal else "\n")

    def _print(self, end):
        of = f" of {self.total / self.scale:,.0f}" if self.total else ""
        seconds = time.monotonic() - self.began
        text = f"{self.title}: {self.done / self.scale:,.0f}{of} {self.unit}, {seconds:.0f} s"
        print(f"\r{text}" if self.terminal else text, end=end, flush=True)
