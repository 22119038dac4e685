"""Pages of reports: what they refer to, and how they are opened in a browser."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """Ids, links and addresses of a page."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.addresses = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            elif name in ("href", "xlink:href"):
                self.links.append(value)
            elif name in ("src", "srcset", "data", "action"):
                self.addresses.append(value)


def open_page(browser, path, width):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    browser.get(path.as_uri())


def touch_screen(browser, width, height, touch):
    """Makes the window so large, in CSS pixels; with fingers, or with a mouse."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch},
    )
    browser.execute_cdp_cmd(
        "Emulation.setTouchEmulationEnabled",
        {"enabled": touch, "maxTouchPoints": 5 if touch else 1},
    )
