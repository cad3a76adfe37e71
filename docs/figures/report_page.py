"""Draws docs/figures/report_page*.png, screenshots of a report in Debian's chromium, of eight runs of the digits:

ncexp -m architecture=mlp optimizer.weight_decay=5e-4,5e-3 optimizer.lr=0.02,0.05 seed=0,1 epochs=60 outputs=page
ncexp report page --to page_report && python docs/figures/report_page.py page_report/report.html
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


def main(report: Path) -> None:
    """Curves against the epoch; parallel coordinates and the table on a dark screen; a run on a narrow one."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)

        def opened(scheme: str, width: int, height: int) -> Page:
            page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": height})
            page.goto(report.absolute().as_uri())
            return page

        def save(page: Page, name: str) -> None:
            page.wait_for_timeout(2000)  # until what is in sight is drawn
            page.screenshot(path=HERE / f"{name}.png")

        page = opened("light", 1280, 860)
        for name, value in {"quantity": "collapse/nc1_trace", "split": "train", "against": "epoch"}.items():
            page.select_option(f"select[name={name}]", value)
        save(page, "report_page")
        page = opened("dark", 1280, 760)
        page.locator("#parallel").scroll_into_view_if_needed()
        page.evaluate("Plotly.restyle('parallel_plot', {'dimensions[1].constraintrange': [[-0.1, 0.5]]})")
        page.evaluate("document.getElementById('parallel').scrollIntoView()")
        save(page, "report_page_parallel")
        page.click("#table_of_runs a >> nth=0")
        page.set_viewport_size({"width": 1280, "height": 1000})
        page.emulate_media(color_scheme="light")
        save(page, "report_page_run")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
