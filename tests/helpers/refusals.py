"""What a refused file looks like to a user: one line, with its name."""

import pytest

from jaxlung.errors import InputError


def assert_refused(function, path, *words):
    with pytest.raises(InputError) as caught:
        function(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    for word in words:
        assert word in message, message
