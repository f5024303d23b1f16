"""Files that are written whole or not at all, and folders that one process changes at a time."""

import contextlib
import errno
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: atomic replacement alone, best effort
    fcntl = None

ABANDONED = 24 * 3600  # seconds after which a file that was begun has no writer any more


@contextlib.contextmanager
def lock(folder):
    """Hold a folder, waiting while another process holds it; it is released if the process dies.

    Args:
        folder: made if it is missing. Nothing is left in it; what a killed process had begun to write there goes a day
            later: a younger file may be another process', which writes without holding the folder.
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
                with contextlib.suppress(FileNotFoundError):  # its writer has just renamed it
                    if time.time() - path.stat().st_mtime > ABANDONED:
                        path.unlink()
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


def check_room(folder, size):
    """Refuse to begin what a disk has no room for.

    Args:
        folder: where it will be written; made if it is missing.
        size: bytes.

    Raises:
        OSError: fewer bytes, with ten million to spare, are free; says how many are needed.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size > free - 10_000_000:
        raise OSError(
            f"{folder} needs {size / 1e6:,.0f} MB and {free / 1e6:,.0f} MB are free. Free some space, or set KD_HOME "
            "to a folder on another disk"
        )


def is_damage(error):
    """Return whether a reader failed because of what is in its file.

    Args:
        error: Exception.

    Returns:
        bool. False where the machine refused, now, to read (no memory, no permission, too many open files, a failing
        disk): such a file may be whole. True for all else, as a damaged file can make its reader fail in any way.
    """
    if isinstance(error, OSError):
        # In turn: an error of the reader's own, a part that is missing, a place that no file has.
        return error.errno in (None, errno.ENOENT, errno.EINVAL)
    return not isinstance(error, MemoryError)


def write_json(path, value):
    """Write `value` as JSON, atomically."""
    with writing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
