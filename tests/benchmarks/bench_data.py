"""Seconds from the official GTSRB archives to arrays, the first time and from the cache, each in a fresh process."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from kd_lib.builders import layouts
from kd_lib.scale import REPOSITORY, home

LOAD = """
import time
started = time.perf_counter()
import kd_lib
data = kd_lib.load_dataset("gtsrb")
images = int(data.train.images[:, 0, 0, 0].sum(dtype="int64")) + len(data.test)  # every page is read
print("seconds", time.perf_counter() - started)
"""


def measure(options):
    """Return rows (name, "s", {"value": seconds}); none, and a line that says so, without the archives."""
    archives = [home() / "archives" / archive.name for archive in layouts.GTSRB.archives]
    missing = [path.name for path in archives if not path.exists()]
    if missing:
        print(f"skipped: gtsrb, archives to arrays ({', '.join(missing)} not in {home() / 'archives'})")
        return []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "archives").mkdir()
        for path in archives:
            (Path(folder) / "archives" / path.name).symlink_to(path)
        first, second = _seconds(folder), _seconds(folder)
    return [("gtsrb, archives to arrays", "s", {"value": first}), ("gtsrb, from the cache", "s", {"value": second})]


def _seconds(folder):
    environment = {**os.environ, "KD_HOME": folder}
    result = subprocess.run(
        [sys.executable, "-c", LOAD], env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return float(result.stdout.rpartition("seconds ")[2])
