"""What a launcher and a nursery tell each other: one JSON object per packet of a local socket, descriptors beside it.

To the nursery: `{"prepare": true}` to import torch, which otherwise the first of the next two does; `{"backend": name}`
to ask whether that one can run here; `{"start": rank, "environment": {...}}` with the descriptors of the channel, the
board and the log; `{"kill": pid}`; `{"leave": code}` for the exit code once the socket is closed.
From it, in the order of the requests: `{"unavailable": reason}`, null when it can; `{"started": pid}` or
`{"failed": reason}`; `{"killing": pid}`; and at any time `{"ended": pid, "code": code}`, negative for a signal as in
`subprocess`. A rank that a launcher gave introduces itself: `{"host": local rank, "process": pid, "cpus": [...]}`.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any

#: The exit code of a nursery that can't import torch; the last line of its log says why.
NO_TORCH = 4
# A rank's environment beside the nursery's own has some hundred bytes; a packet must fit the socket's buffer (208 KiB).
_MOST_BYTES = 65536
_MOST_FDS = 3


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets that keep packets apart."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(line: socket.socket, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
    """Send one packet.

    Raises:
        OSError: the other side is gone.
    """
    socket.send_fds(line, [json.dumps(message).encode()], fds)


def receive(line: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next packet and its descriptors; None when the other side is gone.

    Raises:
        TimeoutError: none within the socket's time limit.
    """
    try:
        packet, fds, _, _ = socket.recv_fds(line, _MOST_BYTES, _MOST_FDS, socket.MSG_CMSG_CLOEXEC)
    except TimeoutError:
        raise
    except OSError:
        return None
    if not packet:
        return None
    message: dict[str, Any] = json.loads(packet)
    return message, fds
