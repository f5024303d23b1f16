"""A real server in a process of its own, for the tests of `make test-server`."""

import contextlib
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from kd_lib.recognition import SHIPPED
from tests import small

REPOSITORY = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def serving(model, *options):
    """Run `python -m kd_lib serve` on a free port: .process, .host, .port, .url."""
    command = [sys.executable, "-m", "kd_lib", "serve", "--port", "0", "--model", str(model), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    try:
        port = int(re.search(r"http://[^:]+:(\d+)", process.stdout.readline())[1])
        yield SimpleNamespace(process=process, host="127.0.0.1", port=port, url=f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The shipped student, or an untrained one of its size where there is none."""
    return SHIPPED if SHIPPED.exists() else small.sign_file(tmp_path_factory.mktemp("model") / "signs.tflite")


@pytest.fixture(scope="module")
def server(model):
    with serving(model) as found:
        yield found
