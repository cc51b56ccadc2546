"""The start of a connection: both ends prove that they have the run's key, and derive the connection's keys from it.

    caller → worker 0    MAGIC, caller's nonce
    worker 0 → caller    MAGIC, worker 0's nonce, worker 0's proof
    caller → worker 0    caller's proof

A proof is an HMAC-SHA256 under the run's key over both nonces and the name of the end that sends it: it is worth
nothing in another connection, nor when it is sent back. Until its peer has proven that it has the key, an end reads and
keeps as many bytes as the above has, and parses none of them.
"""

import hmac
import secrets
import socket

from catsdogs.workers.transport import Keys, read_exactly

MAGIC = b"catsdogs-worker1"
"""So that another protocol is noticed at once. Its last digit is the protocol's version."""
NONCE_SIZE = 32
PROOF_SIZE = 32


class AnotherKey(ConnectionError):
    """The peer speaks the protocol, and has another key."""


def call(connected: socket.socket, key: bytes, deadline: float) -> Keys:
    """Return the keys of a connection to worker 0.

    Raises OSError: AnotherKey, TimeoutError if it takes longer than the deadline (of time.monotonic), ConnectionError.
    """
    nonce = secrets.token_bytes(NONCE_SIZE)
    connected.sendall(MAGIC + nonce)
    _read_magic(connected, deadline)
    nonces = nonce + read_exactly(connected, NONCE_SIZE, deadline)
    proof = read_exactly(connected, PROOF_SIZE, deadline)
    # Also with another key: worker 0 will say so, too.
    connected.sendall(_derived(key, b"proof of the caller", nonces))
    _check(proof, _derived(key, b"proof of worker 0", nonces))
    return Keys(outgoing=_derived(key, b"to worker 0", nonces), incoming=_derived(key, b"to the caller", nonces))


def answer(connected: socket.socket, key: bytes, deadline: float) -> Keys:
    """Return the keys of a connection that worker 0 has accepted. Raises what `call` raises."""
    _read_magic(connected, deadline)
    caller_nonce = read_exactly(connected, NONCE_SIZE, deadline)
    nonce = secrets.token_bytes(NONCE_SIZE)
    nonces = caller_nonce + nonce
    connected.sendall(MAGIC + nonce + _derived(key, b"proof of worker 0", nonces))
    _check(read_exactly(connected, PROOF_SIZE, deadline), _derived(key, b"proof of the caller", nonces))
    return Keys(outgoing=_derived(key, b"to the caller", nonces), incoming=_derived(key, b"to worker 0", nonces))


def _read_magic(connected: socket.socket, deadline: float) -> None:
    if read_exactly(connected, len(MAGIC), deadline) != MAGIC:
        raise ConnectionError("received something other than the start of a worker's connection")


def _check(proof: bytes, expected: bytes) -> None:
    if not hmac.compare_digest(proof, expected):
        raise AnotherKey("has another key")


def _derived(key: bytes, purpose: bytes, nonces: bytes) -> bytes:
    # Nonces have one size, so no two purposes make the same message.
    return hmac.digest(key, purpose + nonces, "sha256")
