"""The README's picture of a report: python docs/images/make_report_picture.py REPORT.html

Needs Chromium and its driver (Debian: chromium-driver), and selenium. REPORT.html is of simulated
radiographs: pictures of patients do not belong here.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from selenium import webdriver


def main(report: Path) -> None:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 1180, "height": 1150, "deviceScaleFactor": 1, "mobile": False},
    )
    driver.get(report.resolve().as_uri())
    picture = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    driver.quit()
    # 64 colours are enough for a page, and a third of the size.
    picture.quantize(64).save(Path(__file__).parent / "report.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
