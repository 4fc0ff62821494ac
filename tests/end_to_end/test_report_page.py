"""Protects the page as a person uses it: a real Chromium opens, sorts, filters and reads it.

Chromium comes from the system (Debian: ``apt-get install chromium``), not from playwright.
"""

import base64
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from pte_foundry.report.details import divergence_contents
from pte_foundry.report.page import render
from pte_foundry.steps.summary import summarize

from tests.made_up_reports import divergence, path_of, report, reports

ARGUMENTS = (
    "--no-sandbox",  # as root in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
UGLY = """</script><img src=x onerror="throw Error('markup')">'&amp;"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if not chromium:
        message = "chromium is not installed (Debian: apt-get install chromium)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = reports()
    odd = report("digits_cnn", "fp16", "ios18")
    odd["build"] = {"model": "zebra", "recipe": UGLY, "target": "ios18"}
    odd["scheme"] = UGLY
    made[path_of(odd)] = odd
    written = tmp_path_factory.mktemp("report") / "index.html"
    written.write_text(render(summarize(made)), encoding="utf-8")
    return written


def opened(browser: Browser, path: Path, **context) -> Iterator[Page]:
    """The page; afterwards, it must have been quiet and must have asked for nothing."""
    page = browser.new_context(**context).new_page()
    noises: list[str] = []
    page.on("console", lambda message: noises.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: noises.append(str(error)))
    page.on("request", lambda request: noises.append(request.url))
    page.goto(path.as_uri())
    yield page
    page.context.close()
    assert noises == [path.as_uri()]


@pytest.fixture
def page(browser: Browser, path: Path) -> Iterator[Page]:
    yield from opened(browser, path)


def column(page: Page, index: int) -> list[str]:
    """The texts of a column, without the fp32 builds, which stay on top."""
    row = "#table > tbody:not([hidden]) > .row:not(.baseline)"
    return page.locator(f"{row} > td:nth-child({index})").all_inner_texts()


def megabytes(text: str) -> float:
    number, unit = text.split()
    return float(number) * {"kB": 1e-3, "MB": 1.0, "GB": 1e3}[unit]


def test_headline_and_engine(page):
    expect(page.locator("h1")).to_have_text("4 of 69 builds fail")
    expect(page.locator("#engine")).to_contain_text("mil-reference interpreter")
    expect(page.locator("#engine")).to_contain_text("not an Apple device")
    expect(page.locator(".failures li")).to_have_count(8)


def test_sort(page):
    """By number and not by text, both ways, with the direction told to screen readers."""
    head = page.locator("#table").get_by_role("columnheader", name="Size")
    before = column(page, 6)
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    sizes = [megabytes(text) for text in column(page, 6)]
    assert sizes == sorted(megabytes(text) for text in before)
    head.get_by_role("button").press("Enter")
    expect(head).to_have_attribute("aria-sort", "descending")
    assert [megabytes(text) for text in column(page, 6)] == sizes[::-1]
    expect(page.locator("th[aria-sort]")).to_have_count(1)
    rows = page.locator(".row").all()
    baselines = [row.get_attribute("class") == "row baseline" for row in rows]
    assert baselines == sorted(baselines, reverse=True)
    assert baselines.count(True) == 4


def test_the_build_to_ship_leads_to_its_details(page):
    """The smallest for each OS: one of the table's rows, opened by its link."""
    row = page.locator(".plain tbody tr", has_text="minilm").filter(has_text="iOS18").first
    row.get_by_role("link").click()
    expect(page.locator(".details")).to_have_count(1)
    opened_row = page.locator("tbody", has=page.locator(".details")).locator(".row")
    expect(opened_row).to_contain_text(row.get_by_role("link").inner_text().split("/")[1])


def test_filter(page):
    """The menus and the search narrow down together; what is left is counted aloud."""
    page.get_by_label("Model").select_option("minilm")
    assert set(column(page, 1)) == {"minilm"}
    page.get_by_label("Search").fill("INT8 ios18")
    assert sorted(column(page, 2)) == ["int8_per_axis", "int8_static", "int8_weight_only"]
    expect(page.get_by_role("status")).to_have_text("3 of 69 builds")
    page.get_by_label("Search").fill("")
    page.get_by_label("Model").select_option("all")
    expect(page.locator(".row:visible")).to_have_count(69)


def test_details_open_with_the_keyboard(page):
    button = page.locator("#build-16").get_by_role("button")
    assert page.locator(".details").count() == 0  # made only when asked for
    button.press("Enter")
    expect(button).to_have_attribute("aria-expanded", "true")
    details = page.locator("#build-16 .details")
    for text in (
        "Where the loss comes from",
        "quantization",
        "constexpr_lut_to_dense",
        "mil-reference",
    ):
        expect(details).to_contain_text(text)
    sha256 = report("digits_cnn", "lut4", "ios18")["artifact"]["sha256"]
    expect(details).to_contain_text(sha256)
    button.press("Enter")
    expect(details).to_be_hidden()


def test_details_stay_with_their_build(page):
    page.locator("#build-16").get_by_role("button").click()
    page.get_by_role("columnheader", name="Status").get_by_role("button").click()
    expect(page.locator("#build-16 .row + .detail")).to_be_visible()


def test_a_failure_leads_to_its_build(page):
    """Even when a filter hides it."""
    page.get_by_label("Model").select_option("minilm")
    page.locator(".failures a").first.click()
    row = page.locator("#build-40")
    expect(row).to_be_in_viewport()
    expect(row.locator(".details")).to_contain_text("Gates")
    expect(row.get_by_role("button")).to_be_focused()


def test_plots(page):
    """One a model, every build a mark, the front a line; a click opens the build."""
    figures = page.locator("figure")
    expect(figures).to_have_count(5)
    for figure in figures.all():
        figure.scroll_into_view_if_needed()
        expect(figure.locator("svg")).to_have_count(2)  # SQNR, and the task metric
    first = figures.first.locator(".plot").first
    expect(first.locator("svg .mark-symbol path")).to_have_count(17)
    line = first.locator("svg .mark-line path")
    expect(line).to_have_count(1)
    assert line.get_attribute("d").count("L") > 4
    first.locator("svg .mark-symbol path").last.click()
    expect(page.locator(".details")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_layers_of_a_build(browser, tmp_path, scheme):
    """Drawn when the build is opened, also what is infinite; a narrow page does not scroll."""
    made = report("minilm", "int8_static", "ios18")
    odd = divergence()
    odd["layers"][0]["layer"] = [UGLY]
    path = tmp_path / "index.html"
    summary = summarize({path_of(made): made})
    path.write_text(render(summary, None, {made["artifact"]["path"]: odd}), encoding="utf-8")
    size = {"width": 400, "height": 800}
    for page in opened(browser, path, color_scheme=scheme, viewport=size):
        page.locator("#build-0").get_by_role("button").click()
        plot = page.locator(".details .plot")
        plot.scroll_into_view_if_needed()
        points = plot.locator("svg .mark-symbol path")
        expect(points).to_have_count(sum(v is not None for v in introduced(odd)))
        expect(plot.locator("svg .mark-line path")).to_have_count(1)
        plot.get_by_label(UGLY).hover()
        expect(page.locator("#vg-tooltip-element")).to_contain_text("−∞")
        plot.get_by_label(UGLY).click()  # leads nowhere
        expect(page.locator(".details").get_by_role("cell", name=UGLY)).to_be_visible()
        expect(page.locator(".details")).to_contain_text("fp16_overflow")
        assert page.evaluate("document.documentElement.scrollWidth") == 400


def introduced(made: dict) -> list[float | None]:
    (plot, _) = divergence_contents(made)
    return [row[2] for row in plot]


def test_names_are_only_text(page):
    row = page.locator("#build-68")
    expect(row).to_contain_text(UGLY)
    row.get_by_role("button").click()
    figure = page.locator("figure", has_text="zebra").locator(".plot").first
    figure.scroll_into_view_if_needed()
    figure.locator("svg .mark-symbol path").hover()
    expect(page.locator("#vg-tooltip-element")).to_contain_text(UGLY)
    assert page.locator("img").count() == 0


def test_narrow_and_dark(browser, path):
    """400 pixels are enough: nothing to scroll sideways, every cell named; plots turn dark."""
    size = {"width": 400, "height": 800}
    for page in opened(browser, path, viewport=size, color_scheme="dark"):
        page.locator("#build-16").get_by_role("button").click()
        assert page.evaluate("document.documentElement.scrollWidth") == 400
        expect(page.locator("#build-16 td[data-label='SQNR dB']")).to_be_visible()
        axis = page.locator("figure").first.locator("svg .role-axis-label text").first
        page.locator("figure").first.scroll_into_view_if_needed()
        dark = axis.get_attribute("fill")
        page.emulate_media(color_scheme="light")
        expect(axis).not_to_have_attribute("fill", dark)


def test_long_names_fit_the_window(browser, tmp_path):
    """Of models, which are a word without a blank, and of many outputs."""
    one = report("segmentation_network_with_a_very_long_name_and_a_version_2", "fp16", "ios18")
    one["outputs"] *= 12
    written = tmp_path / "index.html"
    written.write_text(render(summarize({path_of(one): one})), encoding="utf-8")
    for width in (420, 1400):
        for page in opened(browser, written, viewport={"width": width, "height": 900}):
            page.locator(".row button").click()
            assert page.evaluate("document.documentElement.scrollWidth") == width


def test_the_page_in_the_report_of_snakemake_has_no_dead_links(browser, path, tmp_path):
    """There it is a data: address, from which relative addresses lead nowhere."""
    coded = base64.b64encode(path.read_bytes()).decode()
    around = tmp_path / "report.html"
    around.write_text(f'<iframe src="data:text/html;charset=utf8;base64,{coded}"></iframe>')
    page = browser.new_page()
    page.goto(around.as_uri())
    inside = page.frame_locator("iframe")
    inside.locator(".row button").first.click()
    expect(inside.locator(".links").first).to_contain_text("results/pte/digits_cnn/")
    expect(inside.locator("footer")).to_contain_text("logs/run.html")
    expect(inside.locator('a:not([href^="#"])')).to_have_count(0)
    page.close()


def test_a_thousand_builds_open_fast(browser, tmp_path):
    made = [report(f"model_{i:02}", "lut4", f"ios18_{j:02}") for i in range(20) for j in range(50)]
    path = tmp_path / "index.html"
    path.write_text(render(summarize({path_of(one): one for one in made})), encoding="utf-8")
    start = time.monotonic()
    for page in opened(browser, path):
        expect(page.get_by_role("status")).to_have_text("1000 builds")
        page.get_by_label("Search").fill("model_07 ios18_3")
        expect(page.get_by_role("status")).to_have_text("10 of 1000 builds")
    assert time.monotonic() - start < 15  # seconds; about 1.5 on two old cores
