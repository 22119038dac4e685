"""Firefox, driven by its own protocol, with what the helpers of the film page use."""

import contextlib
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

_NO_QUESTIONS = {
    "app.update.enabled": False,
    "browser.download.folderList": 2,  # the folder below
    "browser.download.always_ask_before_handling_new_types": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "toolkit.telemetry.enabled": False,
}


def _to_pref(name, value):
    shown = str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')
    return f'user_pref("{name}", {shown});\n'


def _wait_for(port, seconds=120):
    """Waits until something listens; the driver's own way leaves a socket open for each try."""
    end = time.monotonic() + seconds
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert time.monotonic() < end, f"Firefox does not answer within {seconds} s"
            time.sleep(0.1)


class Firefox:
    """What `tests.helpers.film_page` uses of selenium's driver of Chromium."""

    def __init__(self, session):
        self.session = session

    def get(self, address):
        self.session.navigate(address)

    def execute_script(self, script):
        return self.session.execute_script(script, sandbox=None)

    def find_element(self, by, value):
        element = self.session.find_element(by, value)
        if element.get_attribute("type") == "file":  # its label is what people see; so it is hidden
            self.session.execute_script("arguments[0].hidden = false", [element], sandbox=None)
        return element

    def execute_cdp_cmd(self, name, values):
        """Does what two commands of Chromium's own do."""
        if name == "Browser.setDownloadBehavior":
            self.session.set_pref("browser.download.dir", values["downloadPath"])
        elif name == "Emulation.setDeviceMetricsOverride":
            self.session.set_window_rect(width=values["width"], height=values["height"])
        else:
            raise NotImplementedError(name)


@contextlib.contextmanager
def run_firefox(folder: Path):
    """Yields a `Firefox` without a window; skips where it or its driver is not installed."""
    program = shutil.which("firefox") or shutil.which("firefox-esr")
    if not program:
        pytest.skip("firefox is not installed (Debian: firefox-esr)")
    driver = pytest.importorskip("marionette_driver.marionette", reason="pip install -e '.[test]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    profile = folder / "profile"
    profile.mkdir()
    settings = {**_NO_QUESTIONS, "marionette.port": port}
    (profile / "user.js").write_text("".join(_to_pref(*each) for each in settings.items()))
    command = [
        program,
        "--headless",
        "--marionette",
        "--remote-allow-system-access",
        "--profile",
        str(profile),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as firefox:
        try:
            _wait_for(port)
            session = driver.Marionette(host="127.0.0.1", port=port)
            session.start_session(timeout=120)
            session.set_context(session.CONTEXT_CONTENT)
            session.switch_to_window(session.window_handles[0])
            yield Firefox(session)
            session.delete_session()
            session.client.close()
        finally:
            firefox.terminate()
