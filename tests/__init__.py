"""The tests, in the folders of the source."""

import pytest

pytest.register_assert_rewrite("tests.helpers")  # its assertions explain failures as those of tests do
