"""Fields of a configuration that name files of this machine: in a configuration file they are relative to that file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, PlainSerializer

# Dumped as text, so that `json.dump(config.model_dump())` works.
AnyPath = Annotated[Path, AfterValidator(Path.expanduser), PlainSerializer(str)]
"""A file or folder that need not be there; `~` is the user's home."""


@dataclass(frozen=True, slots=True)
class HostPath:
    """
    Marks a field, or each item of a list, as a path of this machine: `dockerfile: Annotated[str, HostPath()]`.

    Args:
        mount: The path is what stands before the first `:` (`./data:/data:ro`).
        within: A field that names the folder in which the path is looked for first, when it is given.
    """

    mount: bool = False
    within: str | None = None

    def resolved(self, text: str, folder: Path, within: str | None = None) -> str:
        """
        `text` with a relative path made one of `folder`; an absolute or empty one, or `~`, stays as it is.

        So does one that is looked for in the folder `within`, unless it is only to be found in `folder`.
        """
        path, colon, rest = text.partition(":") if self.mount else (text, "", "")
        if not path or (self.mount and not colon) or path.startswith(("/", "~")):
            return text
        found = os.path.normpath(folder.absolute() / path)
        if within and (os.path.exists(os.path.join(within, path)) or not os.path.exists(found)):  # noqa: PTH110, PTH118
            return text
        return f"{found}{colon}{rest}"
