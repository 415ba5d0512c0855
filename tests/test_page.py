"""The web page in a real browser: people drive, fork and compare, and nothing complains."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from served import Served, served
from tiny_worlds import UNPACKED, world

FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.fixture(scope="module")
def live() -> Iterator[Served]:
    with served(model=world(**UNPACKED)) as found:  # its pictures follow every number of a latent
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium here; install it to test the page")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as found:
        started = found.chromium.launch(executable_path=chromium, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def page(browser, live: Served) -> Iterator:
    opened = browser.new_page()
    complaints: list[str] = []
    opened.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(live.page)
    opened.wait_for_selector("#starts button")
    yield opened
    opened.close()
    assert complaints == []


def pixels(page, world: int = 0) -> str:
    return page.locator(".picture").nth(world).evaluate("canvas => canvas.toDataURL()")


def frames(page, count: int, world: int = 0) -> None:
    """Wait until a world has shown so many pictures."""
    page.wait_for_function(
        f"Number(document.querySelectorAll('.world')[{world}]?.dataset.frames ?? 0) >= {count}",
        timeout=20_000,
    )


def test_driving_changes_what_is_seen_and_everything_is_told(page) -> None:
    assert page.locator("#starts button").count() == 4
    page.locator("#starts button").nth(1).click()
    frames(page, 2)
    before = pixels(page)
    page.keyboard.down("ArrowRight")
    frames(page, 12)
    page.keyboard.up("ArrowRight")
    assert pixels(page) != before
    facts = page.inner_text(".facts")
    assert "step" in facts
    assert "ms" in page.inner_text(".latency-legend")
    assert "in the pass" in page.inner_text(".latency-legend")
    assert page.locator(".stick").count() == 2
    assert page.inner_text("#trouble") == ""


def test_two_futures_of_one_world_are_compared_side_by_side(page) -> None:
    page.locator("#starts button").first.click()
    frames(page, 3)
    page.click("#fork")
    frames(page, 3, world=1)
    page.check("input[name=drive][value='1']")
    page.keyboard.down("ArrowRight")
    frames(page, 15, world=1)
    page.keyboard.up("ArrowRight")
    assert pixels(page, 0) != pixels(page, 1)
    page.click("#back")
    page.locator(".world .close").nth(1).click()
    assert page.locator(".world").count() == 1
    assert page.inner_text("#trouble") == ""


def test_several_people_drive_at_once(page, browser, live: Served) -> None:
    other = browser.new_page()
    other.goto(live.page)
    for each in (page, other):
        each.locator("#starts button").first.click()
    for each in (page, other):
        frames(each, 5)
    page.wait_for_function("document.getElementById('server').textContent.includes('2 live worlds')")
    other.close()


def test_a_server_that_is_gone_is_said_on_the_page(browser) -> None:
    with served() as live:
        page = browser.new_page()
        page.goto(live.page)
        page.locator("#starts button").first.click()
        frames(page, 2)
    page.wait_for_function("document.getElementById('trouble').textContent.length > 10")
    page.close()
