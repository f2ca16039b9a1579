"""The browser of this machine, driven by Selenium; nothing is downloaded for it.

Debian: ``apt install chromium chromium-driver``; ``pip install selenium`` (extra ``browser-test``).
DET_BROWSER names another Chromium or Chrome; its chromedriver must be in PATH.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from studio_client import Client

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PATIENCE = 60.0
"""Seconds to wait for what a page must show, on a machine that does other things too."""


def found_browser() -> tuple[str, str]:
    """The browser and its driver; the test is skipped where one of them is missing."""
    pytest.importorskip("selenium", reason="selenium is missing: pip install yolodet[browser-test]")
    own = os.environ.get("DET_BROWSER")
    browser = own or next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("there is no browser: apt install chromium chromium-driver")
    return browser, driver


class Page:
    """One window of the browser on a studio."""

    def __init__(self, driver: Any, client: Client) -> None:
        self.driver = driver
        self.client = client

    def open(self, hash: str = "") -> None:
        """Open the studio by the address that it prints, then a page of it."""
        self.driver.get(f"http://127.0.0.1:{self.client.port}/?token={self.client.token}{hash}")
        self.until(lambda: self.js("return document.querySelectorAll('nav a').length > 1"))

    def go(self, hash: str) -> None:
        self.js("location.hash = arguments[0]", hash)

    def js(self, code: str, *words: Any) -> Any:
        return self.driver.execute_script(code, *words)

    def all(self, css: str) -> list[Any]:
        return self.driver.find_elements("css selector", css)

    def one(self, css: str) -> Any:
        """The element, as soon as it is there."""
        self.until(lambda: bool(self.all(css)), css)
        return self.all(css)[0]

    def text(self, css: str) -> str:
        return self.js("return document.querySelector(arguments[0])?.textContent ?? ''", css)

    def press(self, *keys: str) -> None:
        """Type keys into whatever has the focus."""
        from selenium.webdriver.common.action_chains import ActionChains

        chain = ActionChains(self.driver)
        for key in keys:
            chain.send_keys(key)
        chain.perform()

    def hold(self, held: str, *keys: str) -> None:
        """Type keys while another one is held."""
        from selenium.webdriver.common.action_chains import ActionChains

        chain = ActionChains(self.driver).key_down(held)
        for key in keys:
            chain.send_keys(key)
        chain.key_up(held).perform()

    def drag(self, css: str, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag from one place of an element to another; places are shares of its sides."""
        from selenium.webdriver.common.action_chains import ActionChains

        element = self.one(css)
        width, height = element.size["width"], element.size["height"]

        def offset(share: tuple[float, float]) -> tuple[int, int]:
            return round((share[0] - 0.5) * width), round((share[1] - 0.5) * height)

        (x1, y1), (x2, y2) = offset(start), offset(end)
        chain = ActionChains(self.driver).move_to_element_with_offset(element, x1, y1)
        chain.click_and_hold().move_by_offset((x2 - x1) // 2, (y2 - y1) // 2)
        chain.move_to_element_with_offset(element, x2, y2).release().perform()

    def choose(self, css: str, value: str) -> None:
        from selenium.webdriver.support.select import Select

        Select(self.one(css)).select_by_value(value)

    def until(self, holds: Callable[[], Any], what: str = "") -> None:
        """Wait until something holds; the error shows what the page says."""
        end = time.monotonic() + PATIENCE
        while not holds():
            if time.monotonic() > end:
                raise AssertionError(f"{what} did not come: {self.text('body')[:2000]}")
            time.sleep(0.05)

    def complaints(self) -> list[str]:
        """What the page has written to the console as an error, but for refused requests."""
        rows = self.driver.get_log("browser")
        return [
            row["message"] for row in rows
            if row["level"] == "SEVERE" and "Failed to load resource" not in row["message"]
        ]  # fmt: skip


@contextmanager
def browsing(client: Client, width: int = 1280, height: int = 860) -> Iterator[Page]:
    """A window without a screen on the studio of ``client``."""
    browser, driver = found_browser()
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = browser
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                 "--no-first-run", "--disable-extensions", "--force-device-scale-factor=1",
                 f"--window-size={width},{height}"):  # fmt: skip
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    window = Chrome(options=options, service=ChromeService(executable_path=driver))
    try:
        yield Page(window, client)
    finally:
        window.quit()
