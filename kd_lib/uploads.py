"""The files of one upload, read in memory within stated limits; nothing touches the disk.

Left out: what the files hold (`kd_lib.recognition` decodes them).
"""

from dataclasses import dataclass

import anyio
from fastapi import HTTPException
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from kd_lib.recognition import MAX_PIXELS

_PARTS = 1000  # of a request, good or bad: more are not read


@dataclass(frozen=True)
class Limits:
    """What one request may hold.

    Attributes:
        files: number of files.
        request_bytes: bytes in all.
        file_bytes: bytes of one file.
        pixels: of one picture.
        request_pixels: of all pictures together: a few bytes can hold a very large picture of one colour.
        seconds: until all bytes have arrived.
    """

    files: int = 64
    request_bytes: int = 64_000_000
    file_bytes: int = 16_000_000
    pixels: int = MAX_PIXELS
    request_pixels: int = 2 * MAX_PIXELS
    seconds: int = 60

    def __post_init__(self):
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"the limit of {name} must be at least 1. Received: {value}")


class _TooLarge(Exception):
    """The request holds more bytes than the limit."""


class _InMemory(MultiPartParser):
    """Starlette's parser, which would move large files to disk."""

    spool_max_size = max_file_size = 2**62  # the name in newer and in older versions
    ended = False  # a part that never ends would be left out without a word

    def on_end(self):
        self.ended = True


async def _limited(stream, most):
    size = 0
    async for chunk in stream:
        size += len(chunk)
        if size > most:
            raise _TooLarge
        yield chunk


async def uploaded(request, limits):
    """Read the files of one multipart request.

    Args:
        request: `starlette.requests.Request`.
        limits: `Limits`.

    Returns:
        (list of (name, bytes, or in their place a str: why the file is refused), in the order of the request; bool,
        whether there were more files than the limit)

    Raises:
        HTTPException: with what is wrong with the request as a whole.
    """
    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data"):
        raise HTTPException(415, f"send multipart/form-data with files in the field 'images'; received {kind!r:.80}")
    parser = _InMemory(
        request.headers, _limited(request.stream(), limits.request_bytes), max_files=max(_PARTS, limits.files)
    )
    try:
        with anyio.fail_after(limits.seconds):
            form = await parser.parse()
        if not parser.ended:
            await form.close()
            raise HTTPException(400, "the multipart body ends before its last boundary: the upload was cut short")
    except TimeoutError:
        raise HTTPException(408, f"the upload took longer than {limits.seconds} s") from None
    except ClientDisconnect:
        raise HTTPException(400, "the client went away before the end of its upload") from None
    except _TooLarge:
        raise HTTPException(413, f"more than {limits.request_bytes:,} bytes in one request") from None
    except MultiPartException as error:
        code = 413 if "Too many" in error.message or "maximum size" in error.message else 400
        raise HTTPException(code, f"the multipart body cannot be read: {error.message}") from None
    except (FormParserError, ValueError, LookupError) as error:
        raise HTTPException(400, f"the multipart body cannot be read: {error}"[:300]) from None
    try:
        found, files = [], 0
        for field, part in form.multi_items():
            if not isinstance(part, UploadFile):
                found.append((field, "this is text: 'images' must hold files, each with a plain filename="))
            elif field != "images":
                found.append((part.filename or field, f"files go into the field 'images'; this came in {field!r:.80}"))
            elif (files := files + 1) > limits.files:
                found.append((part.filename or field, f"at most {limits.files} files in one request"))
            elif part.size > limits.file_bytes:
                found.append((part.filename or field, f"more than {limits.file_bytes:,} bytes"))
            else:
                found.append((part.filename or field, await part.read()))
    finally:
        await form.close()
    if not found:
        raise HTTPException(422, "the request holds no file in the field 'images'")
    found = [(name.encode("utf-8", "backslashreplace").decode(), content) for name, content in found]
    return found, files > limits.files
