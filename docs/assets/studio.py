"""Draw ``studio.png``: the page after a study was made. Needs the extras ``studio`` and ``test``, and chromium.

Usage: ``python docs/assets/studio.py``.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

PORT = 7869
PROMPT = "Large right pleural effusion. Moderate cardiomegaly."
FLAGS = ("--headless=new", "--no-sandbox", "--window-size=1240,1060", "--hide-scrollbars")


def main() -> None:
    """Serve the packaged model, order a study, and take the picture."""
    server = subprocess.Popen(
        [sys.executable, "-m", "core.studio", "--run", "phantom", "--port", str(PORT)], stdout=subprocess.PIPE
    )
    try:
        server.stdout.readline()
        draw(f"http://127.0.0.1:{PORT}")
    finally:
        server.terminate()


def draw(address: str) -> None:
    """Write the picture beside this file."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in FLAGS:
        options.add_argument(flag)
    browser = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    try:
        browser.get(address)
        wait(lambda: browser.find_elements("css selector", "textarea"))
        browser.find_element("css selector", "textarea").send_keys(PROMPT)
        browser.find_element("id", "generate").click()
        wait(lambda: browser.find_element("id", "status").text.startswith("Finished"))
        browser.save_screenshot(str(Path(__file__).with_name("studio.png")))
    finally:
        browser.quit()


def wait(until) -> None:
    """Wait for at most two minutes."""
    for _ in range(1200):
        if until():
            return
        time.sleep(0.1)
    raise SystemExit("the page did not finish")


if __name__ == "__main__":
    main()
