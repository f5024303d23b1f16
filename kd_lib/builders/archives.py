"""Download official archives, keep what is finished, and open them safely.

TensorFlow Datasets has a download manager. It is not used here, for four reasons (version 4.9.10): it stores files
under hashed names, not beside the ones placed by hand; it refuses an archive placed by hand whose checksum differs; it
starts a broken file again from zero; and without a network it retries for minutes before it says so. `fetch` writes
official file names into one folder, continues a partial file, and checks size and SHA-256 of what it downloaded. A
file that is already there is used as it is; `layouts` checks its content. Nothing is ever extracted to disk.
"""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

from kd_lib.builders.progress import Progress

BLOCK = 1 << 20


@dataclass(frozen=True)
class Archive:
    """One official file: its name on disk, where it is downloaded from, SHA-256 in hex and size in bytes if known."""

    name: str
    url: str
    sha256: str | None = None
    size: int | None = None


def sha256_of(path):
    """Return the SHA-256 of a file in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def fetch(archives, folder):
    """Make sure that every archive lies in `folder`, downloading only what is missing.

    Every file is tried, also after another one failed, so a second call has less to do. A file appears under its
    official name only when it is complete and its checksum is right; until then it is called `<name>.part`, and the
    next call continues it.

    Args:
        archives: iterable of `Archive`.
        folder: where they belong.

    Returns:
        List of paths, in the order of `archives`.

    Raises:
        FileNotFoundError: if a file could not be downloaded; says why, and which file to put where by hand.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    failures = []
    for archive in archives:
        if (folder / archive.name).exists():
            continue
        try:
            _download(archive, folder / archive.name)
        # ValueError: wrong size or checksum. HTTPException: the connection broke inside a block.
        except (OSError, ValueError, http.client.HTTPException) as error:
            failures.append(
                f"{archive.name} could not be downloaded ({_reason(error)}).\n"
                f"  By hand: download {archive.url}\n  and save it as {folder / archive.name}"
            )
    if failures:
        kept = [archive.name for archive in archives if (folder / archive.name).exists()]
        kept_text = f"\nAlready there and kept: {', '.join(kept)}." if kept else ""
        raise FileNotFoundError("\n".join(failures) + kept_text + "\nThen run the same command again.")
    return [folder / archive.name for archive in archives]


def _reason(error):
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return f"no connection: {error.reason}"
    return str(error) or type(error).__name__


def _download(archive, path):
    part = path.with_name(path.name + ".part")
    have = part.stat().st_size if part.exists() else 0
    if archive.size is None or have > archive.size:
        have = 0  # without a known size a partial file cannot be told from a finished one
    total = archive.size
    if have != archive.size:
        request = urllib.request.Request(archive.url, headers={"User-Agent": "kd_lib"})
        if have:
            request.add_header("Range", f"bytes={have}-")
        with urllib.request.urlopen(request, timeout=30) as response:
            if response.status != 206:  # the server ignored the range and sends the whole file
                have = 0
            length = response.headers.get("Content-Length")
            total = total or (int(length) if length else None)
            print(f"downloading {archive.url}")
            progress = Progress(archive.name, total, "MB", start=have, scale=1e6)
            with progress, open(part, "ab" if have else "wb") as file:
                while block := response.read(BLOCK):
                    file.write(block)
                    progress.update(len(block))
    size = part.stat().st_size
    if total is not None and size < total:
        raise ValueError(f"the connection ended after {size:,} of {total:,} bytes; run again to continue")
    if archive.sha256 is not None:
        found = sha256_of(part)
        if (size, found) != (total, archive.sha256):
            part.unlink()
            raise ValueError(
                f"what came is not the official file: {size:,} bytes, sha256 {found}; "
                f"expected {total:,} bytes, sha256 {archive.sha256}"
            )
    os.replace(part, path)


def note_differences(archives, folder):
    """Return one line for each archive in `folder` that is not, byte for byte, the official one.

    Such a file is still used: an archive that was repacked has another checksum and the same content.
    """
    notes = []
    for archive in archives:
        path = Path(folder) / archive.name
        if archive.sha256 is not None and sha256_of(path) != archive.sha256:
            notes.append(f"note: {archive.name} is not the official file byte for byte; its content is checked instead")
    return notes


def unpacked_size(archives, folder):
    """Return the bytes that the archives' entries have together: records of photographs take about as many.

    Args:
        archives: iterable of `Archive`.
        folder: where they lie.
    """
    total = 0
    for archive in archives:
        with open_archive(Path(folder) / archive.name) as opened:
            total += sum(entry.file_size for entry in opened.infolist())
    return total


def open_archive(path):
    """Open a zip file for reading, refusing damaged ones and entries that point outside their folder.

    Args:
        path: the zip file.

    Returns:
        An open `zipfile.ZipFile`.

    Raises:
        ValueError: names the archive, what is wrong with it and what to do.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise bad_archive(path, f"it cannot be opened as a zip file, is it complete? ({error})") from error
    for name in archive.namelist():
        parts = name.replace("\\", "/").split("/")
        if ".." in parts or parts[0] == "" or ":" in parts[0]:
            archive.close()
            raise bad_archive(path, f"its entry {name!r} points outside the archive's folder")
    return archive


def read_entry(archive, name):
    """Return the bytes of one entry; the zip's own CRC-32 is checked.

    Raises:
        ValueError: names the archive and the entry.
    """
    try:
        return archive.read(name)
    # Damaged bytes end in zlib.error, BadZipFile, EOFError, NotImplementedError, RuntimeError and others.
    except Exception as error:
        raise bad_archive(archive.filename, f"its entry {name} is damaged ({error})") from error


def bad_archive(path, what):
    """Return the ValueError that names an unusable archive and says what to do."""
    return ValueError(
        f"{Path(path).name} is not usable: {what}. Move or delete {path} and run again to download it, or put a good "
        "copy there. The other archives are kept."
    )
