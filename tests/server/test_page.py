"""The page in a real browser: pictures are chosen by keyboard, answers appear, on a wide screen and on a phone."""

import shutil
import tempfile

import pytest
from PIL import Image

from kd_lib import signs
from kd_lib.scale import REPOSITORY

BROWSER, DRIVER = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs Debian's chromium and chromium-driver")
WIDE, PHONE = (900, 1200), (390, 844)
SHOTS = REPOSITORY / "build" / "page"


@pytest.fixture(scope="module")
def browser():
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        f"--user-data-dir={tempfile.mkdtemp(prefix='kd_lib_browser_')}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    found = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield found
    found.quit()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for number, image in enumerate(signs.render([14, 2], [3, 5], [29, 29], image_size=48)):
        Image.fromarray(image).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"not a picture")
    return [str(folder / name) for name in ("0.png", "1.png", "broken.png")]


def until(browser, condition, seconds=20):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, seconds).until(condition)


def texts(browser, selector):
    return [element.text for element in browser.find_elements("css selector", selector)]


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_pictures_are_answered_with_bars_and_drawn_signs(browser, server, pictures, size):
    browser.set_window_size(*size)
    browser.get(server.url)
    browser.find_element("id", "files").send_keys("\n".join(pictures))
    said = until(browser, lambda page: [text for text in texts(page, "#said") if "answered" in text])
    assert said == ["2 answered, 1 could not be read."]
    assert texts(browser, "article h2") == ["0.png", "1.png", "broken.png"]
    assert len(browser.find_elements("css selector", "article li")) == 6
    shares = [float(text.removesuffix(" %")) for text in texts(browser, "article:first-child .share")]
    assert len(shares) == 3 and 100 >= shares[0] >= shares[2] >= 0
    widths = [bar.size["width"] for bar in browser.find_elements("css selector", "article:first-child .track span")]
    assert widths == sorted(widths, reverse=True)
    assert texts(browser, "article p.bad") == [
        "not a picture in a format that is known here (PNG, JPEG, PPM, WEBP, BMP...)"
    ]
    pictures_of_answers = "[...document.querySelectorAll('article li img, article:first-child > img')]"
    loaded = f"return {pictures_of_answers}.every(image => image.complete && image.naturalWidth > 0)"
    until(browser, lambda page: page.execute_script(loaded))
    scrolls = browser.execute_script(
        "return document.documentElement.scrollWidth > document.documentElement.clientWidth"
    )
    assert not scrolls, "the page must not need sideways scrolling"
    SHOTS.mkdir(parents=True, exist_ok=True)
    browser.save_screenshot(str(SHOTS / f"{size[0]}.png"))


def test_the_page_is_reached_by_keyboard_alone(browser, server):
    from selenium.webdriver.common.keys import Keys

    browser.get(server.url)
    browser.find_element("tag name", "body").send_keys(Keys.TAB)
    focused = browser.switch_to.active_element
    assert focused.get_attribute("id") == "files" and focused.is_displayed()
    outline = "return getComputedStyle(document.getElementById('drop')).outlineStyle"
    assert browser.execute_script(outline) == "solid"
    assert browser.execute_script("return document.documentElement.lang") == "en"


def test_the_page_asks_no_other_host_and_logs_no_error(browser, server, pictures):
    import json

    browser.get_log("performance"), browser.get_log("browser")
    browser.get(server.url)
    browser.find_element("id", "files").send_keys(pictures[0])
    until(browser, lambda page: [text for text in texts(page, "#said") if "answered" in text])
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert asked and all(url.startswith((server.url, "blob:", "data:")) for url in asked)
    errors = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not [error for error in errors if "favicon" not in error]


def test_a_picture_is_dropped_on_the_page_and_an_old_answer_does_not_stay_under_a_new_error(browser, server, pictures):
    import base64
    from pathlib import Path

    browser.get(server.url)
    drop = """
        const bytes = Uint8Array.from(atob(arguments[0]), letter => letter.charCodeAt(0)), carried = new DataTransfer();
        carried.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
        for (const kind of ["dragover", "drop"])
          document.body.dispatchEvent(
            new DragEvent(kind, { dataTransfer: carried, bubbles: true, cancelable: true }));
    """
    picture = base64.b64encode(Path(pictures[0]).read_bytes()).decode()
    browser.execute_script(drop, picture)
    until(browser, lambda page: "1 answered." in texts(page, "#said"))
    assert texts(browser, "article h2") == ["dropped.png"]
    browser.execute_script("window.fetch = () => Promise.reject(new TypeError('Failed to fetch'))")
    browser.execute_script(drop, picture)
    until(browser, lambda page: "The server cannot be reached." in texts(page, "#said"))
    assert texts(browser, "article h2") == []
