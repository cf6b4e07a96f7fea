"""Chromium, headless: Debian's package, which is installed where it is missing and may be."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, async_playwright

from tests.services.process import ServiceError

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_INSTALL = (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"])
# No sandbox: root has none to use. It sees no page but ours.
_ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage"]


def find_chromium() -> str:
    """Its program, installed now where there is none; ServiceError where that cannot be."""
    if not (found := _find()):
        _install()
        found = _find()
    if not found:
        raise ServiceError("there is no Chromium: install it, or put the one that is there on PATH")
    return found


@asynccontextmanager
async def open_browser() -> AsyncIterator[Browser]:
    """A browser, to its end."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_chromium(), args=_ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


def _find() -> str | None:
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


def _install() -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in _INSTALL:
        prefix = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
        try:
            done = subprocess.run([*prefix, *command], capture_output=True, text=True, check=False, env=environment)
        except FileNotFoundError as error:
            raise ServiceError(f"Chromium is not here, and cannot be installed: there is no {error.filename}") from None
        if done.returncode:
            raise ServiceError(f"Chromium cannot be installed: {done.stderr.strip()}; install the package chromium")
