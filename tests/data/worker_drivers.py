"""Drivers that do to a worker what users' code does, by accident or not. Sent with the runs of tests."""

import ctypes
import os
import signal
import stat
import subprocess
import sys
import time


class Write:
    def run(self, step_id, config, inputs, ctx):
        ctx.artifacts_dir.joinpath("out.bin").write_bytes(config.get("text", step_id).encode())
        ctx.metric("written", 1)


class Emit:
    """Many events; then a file, so that its end is seen."""

    def run(self, step_id, config, inputs, ctx):
        pad = "x" * config.get("pad", 0)
        started_s = time.monotonic()
        for number in range(config["count"]):
            ctx.metric("number", number, tags={"pad": pad} if pad else None)
        took_s = time.monotonic() - started_s
        ctx.artifacts_dir.joinpath("emitted").write_text(str(took_s))


class Sleep:
    def run(self, step_id, config, inputs, ctx):
        ctx.artifacts_dir.joinpath("started").touch()
        deadline_s = time.monotonic() + config["seconds"]
        while time.monotonic() < deadline_s and not ctx.cancelled:
            time.sleep(0.02)


class Stubborn:
    """Does not stop when it is asked to, and has a child in a session of its own."""

    def run(self, step_id, config, inputs, ctx):
        subprocess.Popen(["sleep", config["nap"]], start_new_session=True)
        while True:
            time.sleep(0.05)


class HoldGil:
    """One call of C code that lets no other thread of its process run."""

    def run(self, step_id, config, inputs, ctx):
        started_s = time.monotonic()
        exponent = 4_000_000
        while time.monotonic() - started_s < config["seconds"]:
            pow(10, exponent) // 7
            exponent = exponent * 5 // 4
        ctx.metric("held_s", time.monotonic() - started_s)


class Segfault:
    def run(self, step_id, config, inputs, ctx):
        print("about to fall", flush=True)
        ctypes.string_at(0)


class Signal:
    """Sends its own process a signal: the engine's end (KILL) or its stop (STOP)."""

    def run(self, step_id, config, inputs, ctx):
        os.kill(os.getpid(), getattr(signal, config["name"]))
        time.sleep(60)


class FallOnce:
    """The engine dies at the first try; the file `flag` knows."""

    def run(self, step_id, config, inputs, ctx):
        if not os.path.exists(config["flag"]):
            open(config["flag"], "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        ctx.artifacts_dir.joinpath("out.bin").write_bytes(b"after all")


class Leave:
    def run(self, step_id, config, inputs, ctx):
        print("I leave", file=sys.stderr)
        os._exit(3)


class Eat:
    def run(self, step_id, config, inputs, ctx):
        eaten = []
        while True:
            eaten.append(bytearray(os.urandom(1 << 20)) * 16)


class Print:
    """Prints from Python, from C and from a child, and tries to write on what were the wire's descriptors."""

    def run(self, step_id, config, inputs, ctx):
        print("from python")
        print("from python, to stderr", file=sys.stderr)
        ctypes.CDLL(None).puts(b"from C")
        ctypes.CDLL(None).fflush(None)
        subprocess.run(["echo", "from a child"], check=True)
        for fd in range(3, 64):
            try:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    os.write(fd, b"on a descriptor that is not mine\n")
            except OSError:
                continue
        print(f"secret {ctx.environment.get('TOKEN', '')}")
        print("no end of line", end="")


class Escape:
    """Starts processes that get away from their parent, session and group."""

    def run(self, step_id, config, inputs, ctx):
        subprocess.Popen(["sleep", config["nap"]], start_new_session=True)
        # Its parent ends at once; it has a session and an environment of its own.
        subprocess.run(["setsid", "sh", "-c", f"env -i sleep {config['nap']} & sleep 0.05"], check=True)
        ctx.metric("escaped", 2)
        if config.get("stay"):
            time.sleep(60)


class Surroundings:
    def run(self, step_id, config, inputs, ctx):
        ctx.event("surroundings", environ=dict(os.environ), cwd=os.getcwd(), argv=sys.argv, fds=_open_files())


class Raise:
    def run(self, step_id, config, inputs, ctx):
        raise RuntimeError(config.get("text", "") + ctx.environment.get("TOKEN", ""))


def _open_files():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return found
