"""Runs a program and writes down what of the network it asks for, and which programs it starts, a line each.

    python watched.py FILE PROGRAM [ARGUMENTS …]

Python tells an audit hook of every socket that is connected and every name that is looked up, whoever in the process
does it (PEP 578). What stays on this machine is not written down.
"""

import ipaddress
import os
import runpy
import sys
from typing import Any

OUT = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
HERE = ("localhost", "127.0.0.1", "::1", "")


def main() -> None:
    sys.argv = sys.argv[2:]
    sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
    sys.addaudithook(watch)
    runpy.run_path(sys.argv[0], run_name="__main__")


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        note(event, arguments[1])
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        note(event, arguments)
    elif event in ("subprocess.Popen", "os.posix_spawn", "os.exec", "os.system"):
        os.write(OUT, f"{event} {arguments[:2]}\n".encode())


def note(event: str, address: Any) -> None:
    host = address[0] if isinstance(address, tuple) and address else address
    host = host.decode("latin-1") if isinstance(host, bytes) else host
    if isinstance(host, str) and (host in HERE or host.startswith(("/", "\0")) or is_here(host)):
        return
    if host is not None:
        os.write(OUT, f"{event} {address}\n".encode())


def is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


if __name__ == "__main__":
    main()
