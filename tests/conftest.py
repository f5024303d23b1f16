"""Settings for the unit tests: each session works in a KD_HOME of its own, and TensorFlow stays quiet.

Test modules read the environment when they are imported, so it is set here, before any of them. Archives that the user
has are linked file by file into the new home: tests that need them find them, and nothing can change the originals.
"""

import os
import shutil
import tempfile
from pathlib import Path

import hypothesis
import pytest

# The same examples in every run, so that a change is judged by its own merits; `--hypothesis-profile=default` looks for
# new ones.
hypothesis.settings.register_profile("same", derandomize=True)
hypothesis.settings.load_profile("same")

_USERS = Path(os.environ.get("KD_HOME") or Path.home() / ".cache" / "kd_lib").expanduser().resolve()
_HOME = Path(tempfile.mkdtemp(prefix="kd_lib_tests_"))
(_HOME / "archives").mkdir()
for _archive in (_USERS / "archives").glob("*"):
    (_HOME / "archives" / _archive.name).symlink_to(_archive)

os.environ["KD_HOME"] = str(_HOME)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as kd_lib.scale: many tests import Keras before kd_lib
for _name in ("KD_SCALE", "KD_DATA", "KD_MOBILENET"):
    os.environ.pop(_name, None)


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same random state, alone or in any order."""
    import keras

    keras.utils.set_random_seed(0)


@pytest.fixture(scope="module")
def patches():
    """Images that a small network learns within seconds."""
    import small

    return small.coloured_patches()


@pytest.fixture(scope="module")
def student(patches):
    """A small student that has learned `patches`."""
    import keras
    import small

    from kd_lib import models

    keras.utils.set_random_seed(0)
    return small.trained(models.student(5, 16, width=0.125), patches)


@pytest.fixture(scope="session", autouse=True)
def _steady():
    """Switch tf.data's tuning off where Keras feeds arrays: each epoch's end would wait for it (kd_lib.steady)."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

    from kd_lib.steady import steady

    tuned = ArrayDataAdapter.get_tf_dataset
    ArrayDataAdapter.get_tf_dataset = lambda self: steady(tuned(self))


def pytest_unconfigure(config):
    """Remove the session's KD_HOME."""
    shutil.rmtree(_HOME, ignore_errors=True)
