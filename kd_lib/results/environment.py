"""What a number was made with: processor, versions, commit."""

import contextlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from pathlib import Path


def device():
    """Processor, its number of cores and, if TensorFlow is loaded, the graphics card."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
        name = found.group(1).strip() if found else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    text = f"{name}, {cores} cores"
    if "tensorflow" in sys.modules:
        config = sys.modules["tensorflow"].config
        for card in config.list_physical_devices("GPU"):
            text += " + " + config.experimental.get_device_details(card).get("device_name", "GPU")
    return text


def environment():
    """What a number was made with; never fails, with or without git.

    Returns:
        dict with "device" and "backend" (the loaded Keras backend or None), "commit" (or None), "versions" (a dict).
    """
    commit = None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip() or None
    backend = sys.modules["keras"].config.backend() if "keras" in sys.modules else None
    versions = {"python": platform.python_version()}
    for package in ("keras", "tensorflow" if backend in (None, "numpy") else backend, "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {"device": device(), "backend": backend, "commit": commit, "versions": versions}
