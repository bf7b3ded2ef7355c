"""Options of `sbatch` that a user adds: each is one word, and none that this adapter sets itself."""

from __future__ import annotations

import shlex

_OURS = (
    "array", "chdir", "clusters", "comment", "error", "export", "export-file", "get-user-env", "gid", "help", "hold",
    "input", "job-name", "no-requeue", "open-mode", "output", "parsable", "quiet", "requeue", "signal", "test-only",
    "time", "uid", "usage", "version", "wait", "wrap",
)  # fmt: skip
"""What this adapter sets itself, or what would make it blind."""
_OUR_LETTERS = frozenset("aDeHhiJMoQtVW")
_FLAGS = frozenset("HIkOQVWhsuv")
"""Letters that take no value: more of them may follow in the same word."""


def option_word(text: str) -> str:
    """
    One option, with its value if it has one, as the one word that sbatch is given: `-L 'a b'` is `-La b`.

    So no value can be taken for another option or for the script, whatever it is.

    Raises:
        ValueError: It is none, more than one, or one that is not for users.
    """
    name, *values = shlex.split(text) or [""]
    name, has_value, value = name.partition("=")
    if not name.startswith("-") or not name.strip("-"):
        raise ValueError(f"{text!r} is no option: it would be taken for the script")
    if len(values) > (0 if has_value else 1) or (values and values[0].startswith("-")):
        raise ValueError(f"{text!r} is more than one option: give each as an item of its own")
    if _is_ours(name):
        raise ValueError(f"{name} is set by this adapter, or by a setting of its own")
    if values and name.startswith("--"):
        return f"{name}={values[0]}"
    return "".join([name, has_value, value, *values])


def _is_ours(name: str) -> bool:
    """sbatch takes a long name also where it is cut short, and several letters in one word."""
    if name.startswith("--"):
        return any(ours.startswith(name[2:]) for ours in _OURS)
    for letter in name[1:]:
        if letter in _OUR_LETTERS:
            return True
        if letter not in _FLAGS:
            break
    return False
