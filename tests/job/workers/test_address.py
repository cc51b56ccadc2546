"""Addresses of workers: which ones only their own machine can reach."""

import pytest

from catsdogs.workers.address import control_address, is_local


def test_own_connections_use_the_next_port() -> None:
    assert control_address("[::1]:2222") == ("::1", 2223)
    assert control_address("gpu-a:2222") == ("gpu-a", 2223)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]"])
def test_own_machine(host: str) -> None:
    assert is_local(f"{host}:2222")


@pytest.mark.parametrize(
    "host", ["gpu-a", "localhost.example.com", "127.example.com", "0.0.0.0", "[::]", "10.0.0.1", "192.168.127.1"]
)
def test_other_machines_can_reach_it(host: str) -> None:
    assert not is_local(f"{host}:2222")
