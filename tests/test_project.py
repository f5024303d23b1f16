"""What stands beside the library agrees with itself: the Makefile's settings, and the versions that are asked for."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def settings_of(target, folder, **exported):
    """The KD_ variables under which `make TARGET` calls Python, which is replaced by a script that shows them."""
    python = folder / "python"
    python.write_text("#!/bin/sh\nenv\n", encoding="utf-8")
    python.chmod(0o755)
    command = ["make", "-s", target, f"BIN={folder}", f"READY={python}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("KD_", "MAKE", "MFLAGS"))}
    done = subprocess.run(command, cwd=ROOT, env=environment | exported, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(re.findall(r"^(KD_\w+)=(.*)$", done.stdout, re.M))


@pytest.mark.skipif(not shutil.which("make") or os.name == "nt", reason="there is no make")
def test_notebooks_are_tested_at_smoke_scale_in_a_folder_of_their_own_whatever_is_exported(tmp_path):
    exported = {"KD_SCALE": "full", "KD_DATA": "gtsrb", "KD_MOBILENET": "imagenet", "KD_HOME": "/mine"}
    smoke = {"KD_SCALE": "smoke", "KD_DATA": "signs", "KD_MOBILENET": "signs", "KD_HOME": ""}
    assert settings_of("test-notebooks", tmp_path, **exported) == smoke
    assert settings_of("test-unit", tmp_path, **exported)["KD_HOME"] == "/mine", "it holds the archives"


def bounds(lines):
    """{package: bounds} of requirements such as "numpy>=2.0"; those on parts of this package are left out."""
    found = (re.fullmatch(r"([\w.-]+)([<>=!~][^#]*)", line.split("#")[0].strip()) for line in lines)
    return {match[1].lower().replace("_", "-"): match[2].strip() for match in found if match}


def test_requirements_and_the_package_ask_for_the_same_versions():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    packaged = sum(project["optional-dependencies"].values(), project["dependencies"])
    listed = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert len(bounds(listed)) == sum(line[:1].isalpha() for line in listed), "a line that was not understood"
    assert bounds(listed) == bounds(packaged)
