"""The address of a worker, host:port, at which its TensorFlow listens."""

import ipaddress


def control_address(address: str) -> tuple[str, int]:
    """Return host and port of a worker group's own connections: the port after TensorFlow's `address`."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port) + 1


def is_local(address: str) -> bool:
    """Whether only the worker's own machine can reach the address."""
    host, _ = control_address(address)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
