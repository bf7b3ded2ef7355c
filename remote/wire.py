"""The supervisor's end of the wire: frames in and out of two file descriptors, without ever waiting."""

from __future__ import annotations

import os

from remote.framing import FrameDecoder, Stray, encode_frame

READ_BYTES = 1 << 16
MAX_PENDING_BYTES = 1 << 20
"""Past this much that the host has not taken no more events are read from the journal."""


class Wire:
    """
    Non-blocking on both ends; a host that does not read only makes `pending_bytes` grow by its answers.

    Attributes:
        closed: The host's end of our input is gone.
        dead: What we write goes nowhere any more.
    """

    def __init__(self, in_fd: int, out_fd: int) -> None:
        self.in_fd = in_fd
        self.out_fd = out_fd
        self.closed = False
        self.dead = False
        self._decoder = FrameDecoder()
        self._pending: list[bytes] = []
        self.pending_bytes = 0
        for fd in (in_fd, out_fd):
            os.set_blocking(fd, False)

    @property
    def takes_events(self) -> bool:
        return not self.dead and self.pending_bytes < MAX_PENDING_BYTES

    def receive(self) -> list[bytes]:
        """The whole frames that came since the last call; what is no frame is passed over."""
        try:
            data = os.read(self.in_fd, READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self.closed = True
            return []
        return [item.text for item in self._decoder.feed(data) if not isinstance(item, Stray)]

    def send(self, text: bytes) -> None:
        """Queue one message and write what the host takes now."""
        self.send_frames(encode_frame(text))

    def send_frames(self, frames: bytes) -> None:
        if not self.dead:
            self._pending.append(frames)
            self.pending_bytes += len(frames)
            self.flush()

    def flush(self) -> None:
        """Write what the host takes now."""
        while self._pending and not self.dead:
            piece = self._pending[0]
            try:
                written = os.write(self.out_fd, piece)
            except BlockingIOError:
                return
            except OSError:
                self.dead, self._pending, self.pending_bytes = True, [], 0
                return
            self.pending_bytes -= written
            if written < len(piece):
                self._pending[0] = piece[written:]
                return
            del self._pending[0]
