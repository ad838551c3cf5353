"""Addresses that no dashboard can have are one clear error."""

from __future__ import annotations

import pytest

from sweep.execution.jobs import JobError, Jobs


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:99999", "127.0.0.1:abc", "http://[::1", "ray://host:10001", "http://"]
)
def test_an_address_that_no_dashboard_can_have_is_named(address: str) -> None:
    with pytest.raises(JobError, match="expected the address of a dashboard, such as") as caught:
        Jobs(address)
    assert address in str(caught.value)
