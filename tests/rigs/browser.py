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
        found: list[Any] = []
        self.until(lambda: found.extend(self.all(css)) or found, css)
        return found[0]

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

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag from one place of the window to another."""
        from selenium.webdriver.common.action_chains import ActionChains

        chain = ActionChains(self.driver, duration=20)
        pointer = chain.w3c_actions.pointer_action
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        pointer.move_to_location(*start).pointer_down()
        for x, y in (middle, end):
            pointer.move_to_location(x, y)
        pointer.pointer_up()
        chain.perform()

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
def window(width: int = 1280, height: int = 860) -> Iterator[Any]:
    """A window without a screen."""
    browser, driver = found_browser()
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = browser
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                 "--no-first-run", "--disable-extensions", "--force-device-scale-factor=1",
                 f"--window-size={width},{height}"):  # fmt: skip
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=ChromeService(executable_path=driver))
    try:
        yield driver
    finally:
        driver.quit()


def resize(driver: Any, width: int, height: int, *, dark: bool = False) -> None:
    """The size of what the window shows, which may be that of a phone, and its colors."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
