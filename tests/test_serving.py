"""Tests of kd_lib.serving: exact answers, reasons for bad input, nothing on disk. Load and fuzzing: tests/server."""

import io
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import anyio
import httpx
import numpy as np
import pytest
import small
from fastapi import HTTPException
from fastapi.testclient import TestClient
from PIL import Image
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from kd_lib import serving, signs
from kd_lib.recognition import Recognizer
from kd_lib.serving import create_app, serve
from kd_lib.uploads import Limits, uploaded


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return small.sign_file(tmp_path_factory.mktemp("model") / "signs.tflite", threshold=0.999, temperature=0.5)


@pytest.fixture(scope="module")
def client(file):
    limits = Limits(files=5, request_bytes=300_000, file_bytes=100_000, pixels=1_000_000)
    return TestClient(create_app(file, limits=limits), raise_server_exceptions=False)


@pytest.fixture(scope="module")
def pictures():
    return [png(image) for image in signs.render([9, 14, 38], [0, 1, 2], [29, 29, 29], image_size=40)]


def post(client, *files, query=""):
    return client.post(f"/predict{query}", files=[("images", file) for file in files])


def test_the_answer_has_exactly_the_promised_shape_and_is_the_networks(client, file, pictures):
    recognizer = Recognizer(file)
    expected = recognizer.answer(np.stack([recognizer.read(data) for data in pictures[:2]]))
    response = post(client, ("00053.ppm", pictures[0]), ("b.png", pictures[1]))
    assert response.status_code == 200 and response.headers["content-type"] == "application/json"
    assert list(response.json().items()) == [
        (name, {"class": int(answer.classes[0]), "confidence": round(float(answer.confidences[0]), 4)})
        for name, answer in zip(["00053.ppm", "b.png"], expected, strict=True)
    ]


def test_top_and_names_add_to_it(client, pictures):
    plain = post(client, ("a.png", pictures[0])).json()["a.png"]
    found = post(client, ("a.png", pictures[0]), query="?top=3&names=true").json()["a.png"]
    assert set(found) == {"class", "confidence", "name", "top"} and plain.items() <= found.items()
    assert found["name"] == signs.CLASS_NAMES[found["class"]] and len(found["top"]) == 3
    assert found["top"][0] == {key: found[key] for key in ("class", "confidence", "name")}
    assert set(post(client, ("a.png", pictures[0]), query="?names=true").json()["a.png"]) == {
        "class",
        "confidence",
        "name",
    }
    assert client.post("/predict?top=0", files={"images": pictures[0]}).status_code == 422


def test_files_of_one_name_are_all_answered_in_order(client, pictures):
    files = [("a.png", pictures[0]), ("a.png (2)", pictures[1]), ("a.png", pictures[2]), ("a.png", pictures[0])]
    found = post(client, *files).json()
    assert list(found) == ["a.png", "a.png (2)", "a.png (3)", "a.png (4)"]
    assert found["a.png (4)"] == found["a.png"] == post(client, ("x", pictures[0])).json()["x"]
    assert found["a.png (3)"] == post(client, ("x", pictures[2])).json()["x"]


def test_reject_gives_no_class_below_the_threshold(client, pictures, tmp_path_factory):
    found = post(client, ("a.png", pictures[0]), query="?reject=true&names=true").json()["a.png"]
    assert found["class"] is None and found["rejected"] is True and found["confidence"] < 0.999
    sure = small.sign_file(tmp_path_factory.mktemp("sure") / "signs.tflite", threshold=0.0)
    kept = post(TestClient(create_app(sure)), ("a.png", pictures[0]), query="?reject=true").json()["a.png"]
    assert isinstance(kept["class"], int) and kept["rejected"] is False


def test_a_network_without_threshold_cannot_reject(tmp_path, pictures):
    client = TestClient(create_app(small.sign_file(tmp_path / "signs.tflite")))
    response = post(client, ("a.png", pictures[0]), query="?reject=true")
    assert response.status_code == 400 and "no threshold" in response.json()["detail"]


def test_bad_files_get_a_reason_each_and_good_ones_their_answer(client, pictures):
    bomb = io.BytesIO()
    Image.new("1", (7200, 7000)).save(bomb, "PNG")
    files = [
        ("good.png", pictures[0]),
        ("empty.png", b""),
        ("text.png", b"hello"),
        ("cut.png", pictures[1][:-900]),
        ("bomb.png", bomb.getvalue()),
    ]
    response = post(client, *files)
    assert response.status_code == 422
    found = response.json()
    assert found.pop("good.png") == post(client, ("good.png", pictures[0])).json()["good.png"]
    assert found.pop("cut.png")["error"].startswith("truncated or damaged")
    assert found == {
        "empty.png": {"error": "the file is empty"},
        "text.png": {"error": "not a picture in a format that is known here (PNG, JPEG, PPM, WEBP, BMP...)"},
        "bomb.png": {"error": "7200 x 7000 pixels; at most 1,000,000 are taken"},
    }


def test_a_file_above_its_limit_is_refused_and_the_others_are_answered(client, pictures):
    response = post(client, ("large.bmp", b"BM" + bytes(120_000)), ("good.png", pictures[0]))
    assert response.status_code == 422
    assert (
        response.json()["large.bmp"] == {"error": "more than 100,000 bytes"} and "class" in response.json()["good.png"]
    )


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ({"files": [("images", ("a", bytes(90_000)))] * 4}, 413, "more than 300,000 bytes in one request"),
        ({"data": {"images": "text"}}, 415, "send multipart/form-data"),
        ({"json": {"images": []}}, 415, "received 'application/json'"),
        ({}, 415, "received ''"),
        ({"content": b"", "headers": {"content-type": "multipart/form-data"}}, 400, "Missing boundary"),
        ({"content": b"", "headers": {"content-type": "multipart/form-data; boundary=x"}}, 400, "cut short"),
        ({"content": b"--x--\r\n", "headers": {"content-type": "multipart/form-data; boundary=x"}}, 422, "no file"),
        ({"content": b"nonsense", "headers": {"content-type": "multipart/form-data; boundary=x"}}, 400, "cannot be"),
        ({"content": b"--x\r\n\r\n", "headers": {"content-type": "multipart/form-data; boundary=x"}}, 400, "must be"),
        ({"content": b"--x\r\n", "headers": {"content-type": "multipart/form-data; boundary=x"}}, 400, "cut short"),
    ],
)
def test_requests_that_cannot_be_read_say_why(client, arguments, status, message):
    response = client.post("/predict", **arguments)
    assert response.status_code == status and message in response.json()["detail"]


def test_an_upload_that_is_cut_short_is_not_taken_for_a_smaller_one(client, pictures):
    body = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="images"; filename="%d.png"\r\n\r\n' % number + data + b"\r\n"
        for number, data in enumerate(pictures)
    )
    headers = {"content-type": "multipart/form-data; boundary=b"}
    for ending, status in ((b"--b--", 200), (b"--b--\r\n", 200), (b"", 400), (b"--b\r\n", 400), (b"--b-", 400)):
        response = client.post("/predict", content=body + ending, headers=headers)
        assert response.status_code == status, ending
    response = client.post("/predict", content=body[: len(body) // 2], headers=headers)
    assert response.status_code == 400 and "cut short" in response.json()["detail"]


def test_a_text_that_is_too_long_is_too_much(file):
    response = TestClient(create_app(file)).post("/predict", files=[("images", (None, "text" * 300_000))])
    assert response.status_code == 413 and "maximum size" in response.json()["detail"]


def test_more_files_than_a_thousand_can_be_allowed(file, pictures):
    client = TestClient(create_app(file, limits=Limits(files=1200)))
    response = client.post("/predict", files=[("images", (str(number), b"x")) for number in range(1100)])
    assert response.status_code == 422 and len(response.json()) == 1100


def test_large_requests_are_held_a_few_at_a_time_and_none_waits_for_ever(file, pictures, monkeypatch):
    held, most, lock = [0], [0], threading.Lock()
    original = Recognizer.pixels

    def slow(self, *args):
        with lock:
            held[0] += 1
            most[0] = max(most[0], held[0])
        time.sleep(0.4)
        with lock:
            held[0] -= 1
        return original(self, *args)

    monkeypatch.setattr(Recognizer, "pixels", slow)
    monkeypatch.setattr(serving, "_LARGE", 1)
    monkeypatch.setattr(serving, "_DECODERS", 4)
    monkeypatch.setattr(serving, "_SMALL", 10)
    app = create_app(file, limits=Limits(seconds=1))

    async def crowd():
        statuses = []
        transport = httpx.ASGITransport(app=app)
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
            anyio.create_task_group() as tasks,
        ):

            async def one():
                response = await client.post("/predict", files={"images": ("a.png", pictures[0])}, timeout=30)
                statuses.append(response.status_code)

            for _ in range(4):
                tasks.start_soon(one)
        return sorted(statuses)

    statuses = anyio.run(crowd)
    assert most[0] == 1 and statuses[0] == 200 and statuses[-1] == 503 and set(statuses) == {200, 503}


def test_a_wrong_field_and_one_file_too_many_are_refused_and_the_others_answered(client, pictures):
    files = [("photos", ("a.png", pictures[0])), ("images", ("b.png", pictures[1])), ("images", (None, "text"))]
    response = client.post("/predict", files=files)
    found = response.json()
    assert response.status_code == 422 and list(found) == ["a.png", "b.png", "images"] and "class" in found["b.png"]
    assert found["a.png"]["error"] == "files go into the field 'images'; this came in 'photos'"
    assert "must hold files" in found["images"]["error"]
    response = post(client, *[(f"{number}.png", pictures[0]) for number in range(6)])
    found = response.json()
    assert response.status_code == 413 and [name for name in found if "class" in found[name]] == list(found)[:5]
    assert found["5.png"] == {"error": "at most 5 files in one request"}


def test_text_fields_do_not_use_up_the_limit_of_files(client, pictures):
    texts = [("images", (None, "text"))] * 6
    response = client.post("/predict", files=[*texts, ("images", ("good.png", pictures[0]))])
    assert response.status_code == 422 and "class" in response.json()["good.png"]


def test_pictures_of_one_request_share_a_number_of_pixels(file, pictures):
    client = TestClient(create_app(file, limits=Limits(pixels=10_000, request_pixels=15_000)))
    buffer = io.BytesIO()
    Image.new("1", (100, 90)).save(buffer, "WEBP", lossless=True)
    response = post(client, ("a", buffer.getvalue()), ("b", buffer.getvalue()))
    assert response.status_code == 422 and "class" in response.json()["a"]
    assert response.json()["b"] == {"error": "the pictures of one request have more than 15,000 pixels"}


def test_a_tiled_picture_counts_as_large_as_its_tiles(client):
    # width, height, bits, no compression, black is 0, one channel, tiles of 4096 x 4096, where and how long they are
    tags = {256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 277: 1, 322: 4096, 323: 4096, 324: 8, 325: 1}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    found = post(client, ("a.tif", data)).json()["a.tif"]
    assert found == {"error": "4096 x 4096 pixels; at most 1,000,000 are taken"}


def test_uploads_that_stall_or_end_early_are_no_error_of_the_server(file):
    class Request:
        headers = Headers({"content-type": "multipart/form-data; boundary=x"})

        def __init__(self, stream):
            self.stream = stream

    async def stalls():
        yield b"--x\r\n"
        await anyio.sleep(30)

    async def ends():
        yield b"--x\r\n"
        raise ClientDisconnect

    for stream, status, reason in ((stalls, 408, "took longer than 1 s"), (ends, 400, "went away")):
        with pytest.raises(HTTPException) as caught:
            anyio.run(uploaded, Request(stream), Limits(seconds=1))
        assert caught.value.status_code == status and reason in caught.value.detail


def test_a_name_in_a_strange_encoding_is_answered(client, pictures):
    body = b'--b\r\nContent-Disposition: form-data; name="images"; filename="+2AE-.png"\r\n\r\n'
    body += pictures[0] + b"\r\n--b--\r\n"
    headers = {"content-type": "Multipart/Form-Data; boundary=b; charset=utf-7"}
    response = client.post("/predict", content=body, headers=headers)
    assert response.status_code == 200 and list(response.json()) == ["\\ud801.png"]


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "C:\\x.png", "a/b.png", "\u202egnp.exe", "<script>.png", "é" * 200]
)
def test_file_names_are_keys_and_nothing_else(client, pictures, name):
    response = post(client, (name, pictures[0]))
    assert response.status_code == 200 and len(response.json()) == 1 and "class" in next(iter(response.json().values()))


def test_nothing_uploaded_touches_the_disk(client, monkeypatch, pictures):
    def refuse(*args, **kwargs):
        raise AssertionError("a temporary file was opened")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    rolled = []
    original = tempfile.SpooledTemporaryFile.rollover
    monkeypatch.setattr(
        tempfile.SpooledTemporaryFile, "rollover", lambda self: rolled.append(1) or original(self), raising=True
    )
    large = TestClient(create_app(client.app.state.model_path))
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), dtype=np.uint8)  # 3 MB, above Starlette's 1 MB
    response = post(large, ("large.png", png(noise)))
    assert response.status_code == 200 and not rolled


def test_the_other_pages(client, pictures):
    assert client.get("/health").json() == {"status": "ok", "model": "signs.tflite", "classes": 43}
    assert client.get("/classes").json()["14"] == "Stop" and len(client.get("/classes").json()) == 43
    page = client.get("/")
    assert page.status_code == 200 and "at most 5 at a time" in page.text and "43 kinds of signs" in page.text
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", page.text), "the page must not need another host"
    sign = client.get("/signs/14.png")
    assert Image.open(io.BytesIO(sign.content)).size == (96, 96) and sign.headers["content-type"] == "image/png"
    assert client.get("/signs/43.png").status_code == 422 and client.get("/signs/x.png").status_code == 422
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/predict", "/health", "/classes", "/metrics", "/signs/{label}.png"}
    assert client.get("/predict").status_code == 405
    assert client.head("/").status_code == client.head("/health").status_code == 200


def test_metrics_count_requests_and_pictures(file, pictures):
    client = TestClient(create_app(file))
    post(client, ("a.png", pictures[0]), ("b.png", b"bad"), ("c.png", pictures[1]))
    post(client, ("a.png", pictures[0]))
    client.post("/predict")
    lines = client.get("/metrics").text.splitlines()
    for line in (
        'kd_requests_total{status="200"} 1.0',
        'kd_requests_total{status="422"} 1.0',
        'kd_requests_total{status="415"} 1.0',
        'kd_pictures_total{outcome="answered"} 3.0',
        'kd_pictures_total{outcome="refused"} 1.0',
        "kd_predict_seconds_count 3.0",
    ):
        assert line in lines


def test_limits_and_networks_that_cannot_be_used_are_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match="the limit of files must be at least 1"):
        Limits(files=0)
    with pytest.raises(FileNotFoundError, match="no .tflite file at"):
        create_app(tmp_path / "absent.tflite")
    with pytest.raises(ValueError, match=r"port must lie in 0..65535. Received: 99999"):
        serve(port=99999)


def test_a_port_that_is_taken_is_an_error_not_an_exit(file):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        serve(port=taken.getsockname()[1], model=file)


def test_serving_loads_no_tensorflow(file):
    code = (
        "import sys; from kd_lib.serving import create_app; "
        f"create_app({str(file)!r}); "
        "assert not {'tensorflow', 'keras', 'jax', 'sklearn', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
