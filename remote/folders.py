"""Where things are in a worker's folder, on both sides of the wire. Standard library only."""

from __future__ import annotations

CODE_ZIP = "code.zip"
"""Our own code, as it was on the host."""
PACKAGE_FILE = "package.json"
"""The list of what came up, each with its sha256; its own travels in the `start` message."""
PREPARED_FILE = "prepared.json"
CODE_FOLDER = "code"
"""The user's own modules."""
INPUTS_FOLDER = "inputs"
SESSION_FOLDER = "session"
"""What comes home: journal, artifacts, checkpoints and the summary."""
SUMMARY_FILE = f"{SESSION_FOLDER}/summary.json"
WORKER_FOLDER = "worker"
"""What only the worker needs: the files of the file transport."""
CONTROL_FILE = f"{WORKER_FOLDER}/control.jsonl"
REPLIES_FILE = f"{WORKER_FOLDER}/replies.jsonl"
