"""Ten thousand uploads that are broken in some way: a reason each, never a fault of the server."""

import io

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from schemathesis.specs.openapi.checks import positive_data_acceptance

from kd_lib import signs
from kd_lib.serving import create_app
from tests import small


@pytest.fixture(scope="module")
def client(model):
    return TestClient(create_app(model), raise_server_exceptions=False)


def _pictures():
    found = []
    image = Image.fromarray(signs.render([9], [0], [29], image_size=24)[0])
    turned = Image.Exif()
    turned[0x0112] = 6
    for kind in ("PNG", "JPEG", "PPM", "WEBP", "BMP", "GIF", "TIFF", "ICO", "TGA", "EPS"):
        for options in {}, {"exif": turned}:
            buffer = io.BytesIO()
            image.save(buffer, kind, **options)
            found.append(buffer.getvalue())
    return [*found, b"DDS " + (124).to_bytes(4, "little") + bytes(120)]


PICTURES = _pictures()


@st.composite
def damaged(draw):
    """A picture's bytes, cut, or with some bytes changed."""
    data = bytearray(draw(st.sampled_from(PICTURES)))
    for place, value in draw(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=8)):
        data[place % len(data)] = value
    return bytes(data[: draw(st.integers(0, len(data)))])


@st.composite
def uploads(draw):
    """Content type and body: well-formed parts with bad content, and then the whole cut or changed."""
    boundary = draw(st.sampled_from(["b", "----x", "'", "b" * 70]))
    parts = b""
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from(["images", "images", "images", "image", "", '"', "images[]"]))
        filename = draw(st.one_of(st.none(), st.text(max_size=12)))
        shown = "" if filename is None else f'; filename="{filename}"'
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{shown}\r\n'
        head += draw(
            st.sampled_from(["", "Content-Type: image/png\r\n", "X: y\r\n", "Content-Transfer-Encoding: x\r\n"])
        )
        parts += head.encode("utf-8", "surrogatepass") + b"\r\n"
        parts += draw(st.one_of(st.binary(max_size=60), damaged())) + b"\r\n"
    whole = parts + f"--{boundary}--\r\n".encode()
    whole = whole[: draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))]
    whole = draw(st.one_of(st.just(whole), st.just(whole), st.binary(max_size=100)))
    kinds = [f"multipart/form-data; boundary={boundary}"] * 4
    kinds += ["multipart/form-data", "multipart/form-data; boundary=", "text/plain", "", "multipart/mixed; boundary=b"]
    kinds += [
        f"multipart/form-data; boundary={boundary}; charset=nonsense",
        f"multipart/form-data; boundary={boundary}; charset=utf-7",
    ]
    kinds += ['multipart/form-data; boundary="']
    return draw(st.sampled_from(kinds)), whole


@given(uploads())
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_10_000_malformed_uploads_get_a_reason(client, upload):
    kind, content = upload
    response = client.post("/predict", content=content, headers={"content-type": kind} if kind else {})
    assert response.status_code == 200 or 400 <= response.status_code < 500, response.text
    found = response.json()
    if response.status_code != 200:
        assert found.get("detail") or any(entry.get("error") for entry in found.values())
    else:
        assert all("class" in entry for entry in found.values())


def _schema():
    import tempfile
    from pathlib import Path

    folder = tempfile.mkdtemp(prefix="kd_lib_schema_")
    return schemathesis.openapi.from_asgi(
        "/openapi.json", create_app(small.sign_file(Path(folder) / "signs.tflite", threshold=0.1))
    )


schema = _schema()


@schema.parametrize()
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_what_the_openapi_document_allows_is_answered_as_it_says(case):
    # The document cannot say that a file must be a picture, so refusing one is no fault.
    case.call_and_validate(excluded_checks=[positive_data_acceptance])
