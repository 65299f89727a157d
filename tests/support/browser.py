"""A real browser for the tests of pages: headless Chromium, where the machine has one."""

from __future__ import annotations

import base64
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def chromium() -> Iterator[Any]:
    """A driver of Chromium by Selenium; the test is skipped, and says why, where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="no browser test: pip install selenium")
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no browser test: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Selenium's own
        chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            yield chrome
        finally:
            chrome.quit()


def opened(browser: Any, page: Path, width: int = 1280, dark: bool = False) -> Any:
    """The browser, with `page` open at a width of so many pixels, in a light or a dark scheme."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.execute_cdp_cmd("Network.enable", {})
    browser.get(page.resolve().as_uri())
    return browser


def keyed(browser: Any, element: Any, *keys: str) -> None:
    """Types into an element, and waits until the page has acted on it.

    A busy browser takes a key and acts on it (Enter: a click) later than the driver comes back; two frames
    later what was typed before has been dealt with.
    """
    element.send_keys(*keys)
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def troubles(browser: Any) -> list[str]:
    """What is wrong with the page that is open: errors, text that is cut off, controls without a name.

    A part of what checkers of accessibility look for.
    """
    found = [f"console: {entry['message']}" for entry in browser.get_log("browser")]
    return found + browser.execute_script(_CHECKS)


def violations(browser: Any) -> list[str]:
    """What axe-core finds in the page that is open: a line each, with the rule and the first place.

    All of its rules are asked, of WCAG and of good practice, and none is to be broken, whatever its impact.
    What it leaves to a reader counts too, but for colours that it cannot tell, and for links of one name.
    Charts that are hidden from it, as from who does not see them, are not looked at.
    """
    axe = pytest.importorskip(
        "axe_core_python.selenium", reason="no check by axe: pip install axe-core-python"
    )
    if not browser.execute_script("return 'axe' in window"):
        browser.execute_script(axe.Axe().axe_script)
    found = browser.execute_async_script(_AXE)
    unsure = ("color-contrast", "identical-links-same-purpose")
    wrong = found["violations"] + [one for one in found["incomplete"] if one["id"] not in unsure]
    return [f"{one['impact']}: {one['id']}, {one['help']}: {one['nodes'][0]['html'][:120]}" for one in wrong]


def contrasts(browser: Any) -> list[tuple[str, float]]:
    """(text, contrast with its ground) of every text in an SVG of the open page, which axe does not judge.

    A ratio of luminances from 1 to 21 (WCAG 2.2); text of this size wants 4.5.
    """
    return [(text, ratio) for text, ratio in browser.execute_script(_CONTRAST)]


#: JavaScript that asks axe-core, and gives what it says.
_AXE = """
axe.run({exclude: [["svg[aria-hidden=true]"]]}, {resultTypes: ["violations", "incomplete"]})
  .then(arguments[0]);
"""
#: JavaScript that lists what is wrong with the page.
_CHECKS = Path(__file__).with_name("troubles.js").read_text()
_CONTRAST = Path(__file__).with_name("contrast.js").read_text()
#: Addresses that a browser would fetch by itself.
_FETCHED = re.compile(
    r"""(?:src|srcset|action)\s*=\s*["'](?!data:)[^"']+|@import[^;]+|<link[^>]+href=["'](?!data:)[^"']+"""
    r"""|url\((?!["']?(?:data:|#))[^)]*\)"""
)


def fetched(page: str) -> list[str]:
    """Addresses in a page that a browser would fetch; links that a reader follows are none."""
    inside = re.sub(r"data:[a-z+/-]+;base64,[A-Za-z0-9+/=]+", "data:", page)
    return _FETCHED.findall(inside.replace('"data:"', '""'))


def decoded(uri: str) -> bytes:
    """What a data: address holds."""
    return base64.b64decode(uri.partition("base64,")[2])
