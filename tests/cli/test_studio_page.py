"""The page in a real browser: a study from a typed sentence, by keyboard, and its accessibility."""

import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def served(tmp_path):
    """The command that serves the packaged model; its address."""
    port = free_port()
    command = [sys.executable, "-m", "core.studio", "--run", "phantom", "--port", str(port), "--device", "cpu"]
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            line = process.stdout.readline()
            assert re.fullmatch(rf"\w+: http://127\.0\.0\.1:{port}  \(Ctrl\+C ends it\)\n", line), line
            yield f"http://127.0.0.1:{port}"
            process.send_signal(signal.SIGINT)
            assert process.wait(20) in (0, -signal.SIGINT, 130)
        finally:
            process.kill()
    assert "Traceback" not in (tmp_path / "server.log").read_text()


@pytest.fixture
def browser(tmp_path):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,1400"):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path)})
    driver = webdriver.Chrome(options, Service(DRIVER))
    yield driver
    driver.quit()


def wait_for(found, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.1)
    raise AssertionError("it did not happen in time")


def pixels(browser, modality, path):
    browser.find_element("css selector", f"#output-{modality} canvas").screenshot(str(path))
    return np.asarray(Image.open(path).convert("L"), dtype=float)


@needs_browser
def test_a_study_from_a_typed_sentence(served, browser, tmp_path):
    """By keyboard alone: type, press Enter on the button, and every output is seen; then download."""
    from selenium.webdriver.common.keys import Keys

    browser.get(served)
    wait_for(lambda: browser.find_elements("css selector", "textarea"))
    browser.find_element("css selector", "textarea").send_keys("Large right pleural effusion." + Keys.TAB)
    begun = time.monotonic()
    browser.find_element("id", "generate").send_keys(Keys.ENTER)
    status = browser.find_element("id", "status")
    assert wait_for(lambda: browser.find_elements("css selector", "#output-ct canvas")), "it appears while it is made"
    wait_for(lambda: status.text.startswith("Finished"))
    assert time.monotonic() - begun < 60, "30 s on two quiet cores; tests share them"
    for modality in ("xray_frontal", "xray_lateral", "ct", "mri"):
        shown = pixels(browser, modality, tmp_path / f"{modality}.png")
        assert shown.std() > 15, f"{modality} is a picture"
    assert len(browser.find_element("css selector", "#output-text p").text.split()) > 3
    before = pixels(browser, "ct", tmp_path / "before.png")
    window = browser.find_element("css selector", "#output-ct select")
    window.send_keys("lung")
    after = pixels(browser, "ct", tmp_path / "after.png")
    assert np.abs(after - before).mean() > 5, "the window of the lung shows other greys"
    level = browser.find_element("css selector", "#output-ct input.level")
    level.send_keys(Keys.ARROW_RIGHT * 20)
    assert np.abs(pixels(browser, "ct", tmp_path / "moved.png") - after).mean() > 0.5
    browser.find_element("id", "download").send_keys(Keys.ENTER)
    wait_for(lambda: list(Path(tmp_path).glob("study-0.zip")))
    browser.save_screenshot(str(tmp_path / "page.png"))
    assert faults(browser) == []
    assert severe(browser) == []


@needs_browser
def test_the_empty_page_and_a_wrong_input(served, browser):
    browser.get(served)
    wait_for(lambda: browser.find_elements("css selector", "textarea"))
    for summary in browser.find_elements("css selector", "summary"):
        summary.click()
    assert faults(browser) == []
    seed = browser.find_element("name", "seed")
    seed.clear()
    seed.send_keys("-1")
    browser.find_element("id", "generate").click()
    status = browser.find_element("id", "status")
    wait_for(lambda: "error" in status.get_attribute("class"))
    assert "seed" in status.text
    assert browser.find_element("id", "generate").get_attribute("aria-disabled") is None


def faults(browser):
    """What axe-core finds against WCAG 2.1 A and AA."""
    import axe_core_python

    browser.execute_script((Path(axe_core_python.__file__).parent / "axe.min.js").read_text())
    found = browser.execute_async_script(
        "axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']}).then(arguments[0])"
    )
    return [(fault["id"], [node["html"] for node in fault["nodes"]]) for fault in found["violations"]]


def severe(browser):
    """Errors in the console of the page."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_a_port_in_use_is_one_line(run):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = run("core.studio", "--port", str(port))
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: 127.0.0.1 port {port}: cannot be served")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--port", "0"], "'0' is no port; give a number from 1 to 65535"),
        (["--port", "x"], "'x' is no port"),
        (["--host", "300.1.1.1"], "cannot be served"),
        (["--max-upload", "-1"], "is no size; give whole megabytes"),
        (["--run", "nowhere"], "nowhere"),
    ],
)
def test_wrong_arguments(run, arguments, expected):
    result = run("core.studio", *(["--port", str(free_port())] if "--port" not in arguments else []), *arguments)
    assert result.returncode == 2
    assert expected in result.stderr
    assert len(result.stderr.splitlines()) == 1
