"""The server: post pictures of signs, get their classes. FastAPI over `kd_lib.recognition`; loads no TensorFlow.

Nothing that is uploaded touches the disk, and file names are never used as paths. A request with any bad file is
answered by a 4xx code and a reason for each such file, beside the answers to the good ones. Left out: authentication
and encryption, which belong to the proxy in front.
"""

import contextlib
import functools
import io
import os
import socket
import tempfile
import time
from pathlib import Path

import anyio
import anyio.to_thread
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi import Path as PathParameter
from fastapi.responses import HTMLResponse, JSONResponse, Response
from PIL import Image
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest, multiprocess

from kd_lib import __version__, scale
from kd_lib.recognition import Recognizer
from kd_lib.uploads import Limits, uploaded

PAGE = Path(__file__).with_name("page.html")
_SMALL = 1_000_000  # bytes of a request that need not wait for others
_LARGE = 8  # larger requests that are held at a time
_DECODERS = min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _unique(name, taken):
    number, key = 1, name
    while key in taken:
        number += 1
        key = f"{name} ({number})"
    return key


@contextlib.asynccontextmanager
async def _turn(limiter, seconds):
    """Wait for one of a limited number of places, though not for ever, and hold it."""
    try:
        with anyio.fail_after(seconds):
            await limiter.acquire()
    except TimeoutError:
        raise HTTPException(503, "too many large uploads at a time; try again", {"Retry-After": "10"}) from None
    try:
        yield
    finally:
        limiter.release()


def create_app(model_path=None, *, limits=None):
    """Return the application: POST /predict, GET /, /health, /classes, /metrics, /docs (whose page loads its
    scripts from another host; nothing else does).

    Args:
        model_path: path of a .tflite file; None for the student that comes with the package.
        limits: `Limits` of a request; None for the defaults.

    Returns:
        FastAPI

    Raises:
        FileNotFoundError, ValueError: the network cannot be used.
    """
    recognizer, limits = Recognizer(model_path), limits or Limits()
    # Memory: so many requests' pictures are decoded at a time, and so many large requests are held.
    at_once, large = anyio.CapacityLimiter(_DECODERS), anyio.CapacityLimiter(_LARGE)
    app = FastAPI(title="Traffic signs", version=__version__, description=__doc__.splitlines()[0])
    app.state.model_path = recognizer.path
    registry = CollectorRegistry()
    requests = Counter("kd_requests", "Requests to /predict by status code", ["status"], registry=registry)
    pictures = Counter("kd_pictures", "Pictures by outcome: answered or refused", ["outcome"], registry=registry)
    seconds = Histogram("kd_predict_seconds", "Seconds of a request to /predict", registry=registry)

    def look(files):
        """Answer one request's files: ([(name, Answer)], {name: reason})."""
        images, names, reasons, taken, left = [], [], {}, {}, limits.request_pixels
        for name, data in files:
            key = _unique(name, taken)
            taken[key] = None
            try:
                if isinstance(data, str):
                    raise ValueError(data)
                left -= recognizer.pixels(data, limits.pixels)
                if left < 0:
                    raise ValueError(f"the pictures of one request have more than {limits.request_pixels:,} pixels")
                images.append(recognizer.read(data, limits.pixels))
                names.append(key)
            except ValueError as error:
                reasons[key] = str(error)
        answers = dict(zip(names, recognizer.answer(images), strict=True)) if images else {}
        return {key: answers.get(key) for key in taken}, reasons

    async def predict(request, top, names, reject):
        if reject and recognizer.threshold is None:
            raise HTTPException(400, "this network states no threshold: it cannot reject what is no sign")
        announced = request.headers.get("content-length", "")
        small = announced.isdecimal() and int(announced) <= _SMALL
        async with contextlib.nullcontext() if small else _turn(large, limits.seconds):
            files, too_many = await uploaded(request, limits)
            answers, reasons = await anyio.to_thread.run_sync(look, files, limiter=at_once)
        pictures.labels("answered").inc(len(answers) - len(reasons))
        pictures.labels("refused").inc(len(reasons))
        body = {}
        for key, answer in answers.items():
            if answer is None:
                body[key] = {"error": reasons[key]}
                continue
            body[key] = recognizer.describe(answer, top=top, names=names, reject=reject)
        return JSONResponse(body, 413 if too_many else 422 if reasons else 200)

    @app.post("/predict", summary="Name the signs in pictures", responses=_ANSWERS, openapi_extra=_UPLOAD)
    async def _predict(
        request: Request,
        top: int = Query(1, ge=1, le=1000, description="classes to name for each picture"),
        names: bool = Query(False, description="add the names of classes"),
        reject: bool = Query(False, description="class null where the picture is perhaps no sign"),
    ):
        began, status = time.perf_counter(), 500
        try:
            response = await predict(request, top, names, reject)
            status = response.status_code
            return response
        except HTTPException as error:
            status = error.status_code
            raise
        finally:
            requests.labels(str(status)).inc()
            seconds.observe(time.perf_counter() - began)

    @app.head("/health", include_in_schema=False)
    @app.get("/health", summary="Is the server up, and with which network")
    async def _health():
        return {"status": "ok", "model": recognizer.path.name, "classes": len(recognizer.class_names)}

    @app.get("/classes", summary="Names of all classes")
    async def _classes():
        return {str(label): name for label, name in enumerate(recognizer.class_names)}

    @app.get("/metrics", summary="Counters for Prometheus", response_class=Response)
    async def _metrics():
        source = registry
        if scale.told_to_workers():  # one of several: they count together
            source = CollectorRegistry()
            multiprocess.MultiProcessCollector(source)
        return Response(generate_latest(source), media_type=CONTENT_TYPE_LATEST)

    page = PAGE.read_text(encoding="utf-8").replace("MAX_FILES", str(limits.files))
    page = page.replace("CLASSES", str(len(recognizer.class_names)))

    @app.head("/", response_class=HTMLResponse, include_in_schema=False)
    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def _page():
        return HTMLResponse(page, headers={"Content-Security-Policy": _ONLY_OURSELVES})

    @app.get("/signs/{label}.png", response_class=Response, summary="The drawn sign of a class")
    async def _sign(label: int = PathParameter(ge=0, lt=len(recognizer.class_names))):
        content = await anyio.to_thread.run_sync(_drawn, label, recognizer.class_names[label])
        return Response(content, media_type="image/png", headers={"Cache-Control": "max-age=86400"})

    return app


_ONLY_OURSELVES = "default-src 'self'; img-src 'self' blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_REASON = {"content": {"application/json": {"schema": {"type": "object"}}}}
_ANSWERS = {
    200: {"description": "Every picture was answered: {file: {class, confidence}}", **_REASON},
    400: {"description": "The request cannot be read", **_REASON},
    408: {"description": "The upload took too long", **_REASON},
    413: {"description": "Too many files or bytes", **_REASON},
    415: {"description": "Not multipart/form-data", **_REASON},
    422: {"description": "A file cannot be read (the others are answered), or none was sent", **_REASON},
    503: {"description": "Too many large uploads at a time", **_REASON},
}
_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {
                        "images": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}
                    },
                }
            }
        },
    }
}


@functools.lru_cache(256)
def _drawn(label, name):
    """PNG bytes of a class's drawn sign; of a blank where the class is no German sign."""
    from kd_lib.signs import CLASS_NAMES, pictogram

    known = label < len(CLASS_NAMES) and CLASS_NAMES[label] == name
    image = Image.fromarray(pictogram(label, 96)) if known else Image.new("RGBA", (96, 96))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def serve(*, host="127.0.0.1", port=8000, model=None, workers=1, limits=None):
    """Run the server until it is told to stop; requests under way are finished first.

    Args:
        host: address to listen on; "0.0.0.0" for all.
        port: TCP port; 0 for any free one.
        model: path of a .tflite file; None for the student that comes with the package.
        workers: number of processes.
        limits: `Limits`.

    Raises:
        FileNotFoundError, ValueError: the network cannot be used, workers below 1, or no such port.
        OSError: the address or the port cannot be had.
    """
    import uvicorn

    if workers < 1:
        raise ValueError(f"workers must be at least 1. Received: {workers}")
    if not 0 <= port <= 65535:
        raise ValueError(f"port must lie in 0..65535. Received: {port}")
    Recognizer(model)  # what is wrong with the file is said once, here
    limits = limits or Limits()
    options = {"log_level": "warning", "timeout_graceful_shutdown": limits.seconds + 5}  # uploads may be under way
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # It listens from here on: clients wait rather than being turned away.
    with socket.create_server((host, port), family=family, backlog=2048) as listening:
        # Connections inherit it: without it, each answer waits 40 ms for the client to acknowledge its first packet.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        port = listening.getsockname()[1]
        print(f"Signs are named at http://{f'[{host}]' if ':' in host else host}:{port} (Ctrl+C ends it)", flush=True)
        if workers == 1:
            uvicorn.Server(uvicorn.Config(create_app(model, limits=limits), **options)).run(sockets=[listening])
            return
        with tempfile.TemporaryDirectory(prefix="kd_lib_metrics_") as counters:
            scale.tell_workers(counters, model=model and str(model), limits=vars(limits))
            work = {"factory": True, "fd": listening.fileno(), "workers": workers}
            uvicorn.run("kd_lib.serving:worker_app", **work, **options)


def worker_app():
    """Return the application of one of several workers, as `serve` was told to make it."""
    told = scale.told_to_workers()
    return create_app(told["model"], limits=Limits(**told["limits"]))
