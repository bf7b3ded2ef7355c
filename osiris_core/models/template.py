"""A folder of templates, rendered into a workspace by Jinja2: all of it, or nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osiris_core.errors import PreparationError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def render_folder(template: Path, workspace: Path, values: Mapping[str, Any]) -> None:
    """
    Put every file of `template` into `workspace`, with names and texts rendered; what is no UTF-8 is copied as it is.

    Permissions stay. A name that is not defined is an error, never an empty text.

    Raises:
        PreparationError: A template is wrong, for every reason there is, each with file and line; nothing was written.
    """
    rendered: list[tuple[Path, Path, str | None]] = []
    folders: list[Path] = []
    problems: list[Problem] = []
    environment = _environment()
    for source in sorted(template.rglob("*")):
        relative = source.relative_to(template).as_posix()
        name = _rendered(environment, relative, values, source, problems)
        if name is None:
            continue
        target = workspace / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            problems.append(Problem(f"its name becomes {name!r}, which leads out of the workspace", file=str(source)))
        elif source.is_dir():
            folders.append(target)
        else:
            rendered.append((source, target, _content(environment, source, values, problems)))
    if problems:
        raise PreparationError(problems)
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    for source, target, text in rendered:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        if text is None:
            shutil.copyfile(source, target)
        else:
            target.write_text(text, encoding="utf-8", newline="")
        shutil.copymode(source, target)


def _environment() -> Any:
    try:
        import jinja2
    except ModuleNotFoundError:
        message = "templates need Jinja2: pip install 'osiris-core[templates]'"
        raise PreparationError([Problem(message, key="template")]) from None
    # Inputs of models are no HTML: escaping would change them.
    return jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701


def _content(environment: Any, source: Path, values: Mapping[str, Any], problems: list[Problem]) -> str | None:
    try:
        with source.open(encoding="utf-8", newline="") as file:
            text = file.read()
    except UnicodeDecodeError:
        return None
    except OSError as exc:
        problems.append(Problem(f"cannot be read: {exc.strerror}", file=str(source)))
        return None
    return _rendered(environment, text, values, source, problems)


def _rendered(
    environment: Any, text: str, values: Mapping[str, Any], source: Path, problems: list[Problem]
) -> str | None:
    if "{{" not in text and "{%" not in text and "{#" not in text:
        return text
    import jinja2

    if "\r\n" in text:  # Jinja2 would write all ends of lines in one way
        environment = environment.overlay(newline_sequence="\r\n")
    try:
        found: str = environment.from_string(text).render(values)
    except jinja2.TemplateSyntaxError as exc:
        problems.append(Problem(f"it is no template: {exc.message}", file=str(source), line=exc.lineno))
    except Exception as exc:  # noqa: BLE001 - what a template calls may raise anything
        problems.append(Problem(f"it cannot be rendered: {exc}", file=str(source), line=_line_of(exc)))
    else:
        return found
    return None


def _line_of(error: Exception) -> int | None:
    """Where in its template an error was raised: the innermost line that is a template's."""
    return next(reversed(list(_template_lines(error))), None)


def _template_lines(error: Exception) -> Iterator[int]:
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            yield trace.tb_lineno
        trace = trace.tb_next
