"""The package as a server has it: `pip install .[serve]`, no TensorFlow. Run by `make test-install`."""

import importlib.util
import io
import json
import re
import subprocess
import sys
import urllib.request

from PIL import Image

from kd_lib import signs
from kd_lib.recognition import SHIPPED

COMMAND = [sys.executable, "-m", "kd_lib"]
STOP = 14


def main():
    if not SHIPPED.exists():
        sys.exit(f"No student ships yet at {SHIPPED}: there is nothing to predict with.")
    for absent in ("tensorflow", "keras", "sklearn", "matplotlib"):
        assert importlib.util.find_spec(absent) is None, f"{absent} is installed: this proves nothing"
    picture = io.BytesIO()
    Image.fromarray(signs.render([STOP], [3], [29], image_size=48)[0]).save(picture, "png")
    with open("stop.png", "wb") as file:
        file.write(picture.getvalue())
    answer = subprocess.run([*COMMAND, "predict", "stop.png", "--json"], capture_output=True, text=True, check=True)
    assert [entry["class"] for entry in json.loads(answer.stdout)] == [STOP], answer.stdout
    server = subprocess.Popen([*COMMAND, "serve", "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        url = re.search(r"http://\S+:\d+", server.stdout.readline())[0]
        body = b'--x\r\nContent-Disposition: form-data; name="images"; filename="stop.png"\r\n\r\n'
        body += picture.getvalue() + b"\r\n--x--\r\n"
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        with urllib.request.urlopen(urllib.request.Request(f"{url}/predict", body, headers), timeout=20) as response:
            found = json.load(response)
        assert found["stop.png"]["class"] == STOP, found
    finally:
        server.terminate()
        server.wait(30)
    print("pip install .[serve]: predict and serve answer without TensorFlow.")


if __name__ == "__main__":
    main()
