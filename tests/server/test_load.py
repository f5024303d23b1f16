"""Many clients at once, and an end in the middle of a request."""

import http.client
import io
import json
import re
import signal
import socket
import sys
import threading
import time

import numpy as np
import psutil
import pytest
from PIL import Image

from kd_lib import signs
from tests.server.conftest import serving

CLIENTS, REQUESTS = 32, 10_000
BOUNDARY = "limit"


def body(pictures, names):
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="{name}"\r\n\r\n'.encode() + data
        for name, data in zip(names, pictures, strict=True)
    ]
    return b"\r\n".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@pytest.fixture(scope="module")
def bodies():
    """Requests of one picture each, of every class, in PNG, JPEG and PPM."""
    images = signs.render(range(43), range(43), [29] * 43, image_size=48)
    found = []
    for label, image in enumerate(images):
        buffer, kind = io.BytesIO(), ("PNG", "JPEG", "PPM")[label % 3]
        Image.fromarray(image).save(buffer, kind)
        found.append(body([buffer.getvalue()], [f"{label}.{kind.lower()}"]))
    return found


def post(server, sent):
    """Send a request over a connection of its own; return the status of its answer."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
    connection.request("POST", "/predict", sent, HEADERS)
    status = connection.getresponse().status
    connection.close()
    return status


def megabytes(process):
    family = [process, *process.children(recursive=True)]
    return sum(each.memory_info().rss for each in family) / 1e6


def test_32_clients_and_10_000_requests_are_answered_with_flat_memory(server, bodies, capsys):
    process, expected = psutil.Process(server.process.pid), {}
    for label, sent in enumerate(bodies):  # alone, before the crowd comes
        connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
        connection.request("POST", "/predict", sent, HEADERS)
        expected[label] = json.loads(connection.getresponse().read())
        assert list(expected[label])[0].startswith(f"{label}.")
        connection.close()
    seconds, failures, memory = [], [], []
    numbers, lock = iter(range(REQUESTS)), threading.Lock()

    def client():
        connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
        while True:
            with lock:
                number = next(numbers, None)
                if number is not None and number % 250 == 0:
                    memory.append(megabytes(process))
            if number is None:
                return connection.close()
            began = time.perf_counter()
            connection.request("POST", "/predict", bodies[number % len(bodies)], HEADERS)
            response = connection.getresponse()
            content = response.read()
            seconds.append(time.perf_counter() - began)
            label = number % len(bodies)
            if response.status != 200 or json.loads(content) != expected[label]:
                failures.append((response.status, content))

    began = time.perf_counter()
    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = time.perf_counter() - began
    assert not failures and len(seconds) == REQUESTS
    first, last = np.mean(memory[:4]), np.mean(memory[-4:])
    p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
    with capsys.disabled():
        print(
            f"\n{CLIENTS} clients, {REQUESTS:,} requests: {REQUESTS / whole:.0f} a second, median {p50:.1f} ms, "
            f"p99 {p99:.1f} ms; memory {first:.0f} MB in the first thousand, {last:.0f} MB in the last"
        )
    assert last < 1.1 * first + 5


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_answer_does_not_wait_for_the_acknowledgement_of_its_first_packet(model, workers):
    with serving(model, "--workers", workers) as server:
        connection, seconds = http.client.HTTPConnection(server.host, server.port, timeout=60), []
        for _ in range(20):
            began = time.perf_counter()
            connection.request("GET", "/health")
            connection.getresponse().read()
            seconds.append(time.perf_counter() - began)
        connection.close()
    assert np.median(seconds) < 0.025, "with Nagle's algorithm it takes 40 ms"


def test_several_workers_share_the_work_and_count_together(model, bodies):
    with serving(model, "--workers", "2") as server:
        for number in range(40):
            assert post(server, bodies[number]) == 200
        connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        assert re.search(r'kd_requests_total\{status="200"\} 40.0', text), text
        children = psutil.Process(server.process.pid).children(recursive=True)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(30)
        _, alive = psutil.wait_procs(children, timeout=5)
        assert not alive


def test_sigterm_finishes_the_requests_that_are_under_way(model, bodies):
    with serving(model) as server:
        whole = bodies[0]
        with socket.create_connection((server.host, server.port), timeout=30) as under_way:
            head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {HEADERS['Content-Type']}\r\n"
            under_way.sendall(f"{head}Content-Length: {len(whole)}\r\n\r\n".encode() + whole[:100])
            time.sleep(0.5)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            assert server.process.poll() is None
            under_way.sendall(whole[100:])
            response = http.client.HTTPResponse(under_way)
            response.begin()
            assert response.status == 200 and list(json.loads(response.read())) == ["0.png"]
        assert server.process.wait(30) in (0, -signal.SIGTERM)
        with pytest.raises(OSError):
            socket.create_connection((server.host, server.port), timeout=5)


def test_a_port_that_is_taken_is_said(server, model):
    import subprocess

    command = [sys.executable, "-m", "kd_lib", "serve", "--port", str(server.port), "--model", str(model)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and "ddress already in use" in done.stderr and "Traceback" not in done.stderr


def test_an_upload_in_pieces_without_a_length_is_answered_and_a_lying_length_breaks_nothing(server, bodies):
    whole = http.client.HTTPConnection(server.host, server.port, timeout=60)
    whole.request("POST", "/predict", bodies[0], HEADERS)
    expected = whole.getresponse().read()
    pieces = (bodies[0][start : start + 100] for start in range(0, len(bodies[0]), 100))
    whole.request("POST", "/predict", pieces, HEADERS, encode_chunked=True)
    response = whole.getresponse()
    assert response.status == 200 and response.read() == expected
    with socket.create_connection((server.host, server.port), timeout=30) as cut:  # it goes away in the middle
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {HEADERS['Content-Type']}\r\n"
        cut.sendall(f"{head}Content-Length: {len(bodies[0]) + 50}\r\n\r\n".encode() + bodies[0])
    whole.request("POST", "/predict", bodies[0], HEADERS)
    assert whole.getresponse().read() == expected


@pytest.mark.skipif(sys.platform != "linux", reason="the files that a process has mapped are told on Linux")
def test_serving_loads_no_tensorflow_in_any_of_its_processes(model, bodies):
    with serving(model, "--workers", "2") as server:
        for number in range(10):
            assert post(server, bodies[number]) == 200
        family = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
        assert len(family) >= 3
        loaded = [mapped.path for process in family for mapped in process.memory_maps()]
        assert any("litert" in path for path in loaded)
        assert not [path for path in loaded if "/tensorflow/" in path or "/jaxlib/" in path]
