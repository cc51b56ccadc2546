"""`python without_landlock.py COMMAND...`: runs the command as on a kernel without Landlock, by a seccomp filter."""

import ctypes
import os
import struct
import sys

LANDLOCK = (444, 445, 446)
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ENOSYS = 0x7FFF0000, 0x00050000 | 38


def main(command: list[str]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    lines = [(LOAD, 0, 0, 0)]
    for index, number in enumerate(LANDLOCK):
        lines.append((JUMP_IF_EQUAL, len(LANDLOCK) - index, 0, number))
    lines += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, ENOSYS)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in lines))
    described = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(lines), ctypes.addressof(program)))
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, described, 0, 0) == 0
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
