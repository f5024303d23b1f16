"""Files that are written whole or not at all, and folders that one process changes at a time."""

import contextlib
import errno
import json
import os
import shutil
import tempfile
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: atomic replacement alone, best effort
    fcntl = None


@contextlib.contextmanager
def lock(folder):
    """Hold a folder, waiting while another process holds it; it is released if the process dies.

    Args:
        folder: made if it is missing. Nothing is left in it; what a killed process had begun to write there goes.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY) if fcntl else None
    try:
        if fcntl:
            with contextlib.suppress(OSError):  # some network file systems cannot lock
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    print(f"waiting for another process that works on {folder.name}", flush=True)
                    fcntl.flock(handle, fcntl.LOCK_EX)
            for path in folder.glob(".writing-*"):
                path.unlink(missing_ok=True)
        yield
    finally:
        if handle is not None:
            os.close(handle)


@contextlib.contextmanager
def writing(path, size=0):
    """Yield a temporary path beside `path` and rename it to `path` on success; remove it on any error.

    Args:
        path: file to write; its folder is made if it is missing.
        size: bytes that will be written at most, if known: a disk with less room is refused before anything is written.

    Raises:
        OSError: the file could not be written (disk full, no permission); what stood at `path` is untouched.
    """
    path, temporary = Path(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(path.parent).free < size:
            raise OSError(errno.ENOSPC, "No space left on device")
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-", suffix=path.name)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # as any new file; mkstemp's are for their owner alone
        os.replace(temporary, path)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error  # HDF5 adds a page of its own
        message = (
            f"Could not write {path}: {reason}. Free some space or check permissions, then run the same command again: "
            "what was finished before is kept."
        )
        raise OSError(error.errno or errno.EIO, message) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_json(path, value):
    """Write `value` as JSON, atomically."""
    with writing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
