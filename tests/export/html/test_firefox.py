"""The page in another browser than Chromium, which the other tests drive."""

import numpy as np
import pytest

from tests.helpers.film_page import compare, give_films, save_all, start_page
from tests.helpers.firefox import run_firefox


@pytest.mark.slow  # another browser to start, for the same pages
def test_page_in_firefox(exported, page, sample, tmp_path):
    with run_firefox(tmp_path) as firefox:
        assert "Firefox/" in firefox.execute_script("return navigator.userAgent")
        start_page(firefox, page)
        give_films(firefox, sample)
        dice = compare(exported.model, sample, save_all(firefox, tmp_path))
        script = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
        asked = [name for name in firefox.execute_script(script) if not name.startswith("blob:")]
    assert len(dice) == len(sample) and np.mean(dice) >= 0.9999
    assert asked == []
