"""The ports that commands prefer, where the user names none."""

import socket

SANDBOX_PORT = 8082


def free_or_any(port: int) -> int:
    """`port` on loopback if nobody has it, else 0: any free one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port
