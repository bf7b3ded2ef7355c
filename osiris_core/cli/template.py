"""A configuration file to begin with: what must be given is there, the rest is a comment; it is valid as it stands."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

WIDTH = 100


def template(model: type[BaseModel], *, commented: bool = True, with_examples: bool = False) -> str:
    """
    YAML for `model`. Keys that must be given have the values of an example.

    Args:
        commented: Also every other key, as a comment with its default and what it does.
        with_examples: Every key that an example of the schema has, not only those that must be given.
    """
    example = whole_example(model) if with_examples else next(iter(examples_of(model)), {})
    lines = [f"# {line}" if line else "#" for line in _about(model)] if commented else []
    fields = sorted(model.model_fields.items(), key=lambda item: item[0] != "type")
    for name, info in fields:
        if name in example and (with_examples or info.is_required() or name == "type" or not commented):
            lines += ["", *_said(info)] if commented else []
            lines += _yaml(name, example[name])
        elif commented:
            lines += ["", *_said(info), *(f"# {line}" for line in _yaml(name, _shown(info)))]
    return "\n".join(lines).lstrip("\n") + "\n"


def pipeline_template(name: str) -> str:
    """YAML for a pipeline's file, by pipeline backend `name`: three sections, and every other key as a comment."""
    from osiris_core.models.pipeline_file import SECTIONS, PipelineOptions, pipeline_example

    example = pipeline_example(name)
    lines = [f"# A pipeline, by backend '{name}': osiris pipeline FILE", "#"]
    lines += ["# A section is a configuration, or the file of one: `config: !include model.yaml`."]
    for section, text in SECTIONS.items():
        lines += ["", f"# {text[0].upper()}{text[1:]}.", *_yaml(section, example[section])]
    for key, info in PipelineOptions.model_fields.items():
        shown = _yaml(key, example[key]) if key in example else [f"# {line}" for line in _yaml(key, _shown(info))]
        lines += ["", *_said(info), *shown]
    return "\n".join(lines) + "\n"


def as_document(model: type[BaseModel], *, with_examples: bool = False) -> dict[str, Any]:
    """The same as data, for JSON, which has no comments: what must be given, or a whole example."""
    if with_examples:
        return whole_example(model)
    example = next(iter(examples_of(model)), {})
    required = {name for name, info in model.model_fields.items() if info.is_required()} | {"type"}
    return {name: value for name, value in example.items() if name in required}


def examples_of(model: type[BaseModel]) -> list[dict[str, Any]]:
    """
    The examples of the schema, most telling first; where it has none, one of the fields' own.

    A model is asked for its `type` and for what it cannot do without.
    """
    stated = model.model_json_schema().get("examples")
    if stated:
        return [dict(example) for example in stated]
    found = {}
    for name, info in model.model_fields.items():
        if name == "type" and not info.is_required():
            found[name] = info.default
        elif info.is_required():
            found[name] = info.examples[0] if info.examples else None
    return [found]


def whole_example(model: type[BaseModel]) -> dict[str, Any]:
    """An example with as many keys as go together: those of the schema's first, then what the fields show."""
    from pydantic import ValidationError

    from osiris_core.secrets import references

    found = dict(next(iter(examples_of(model)), {}))
    for name, info in model.model_fields.items():
        if name in found or not info.examples or any(True for _ in references(info.examples[0])):
            continue  # a variable may not be set here
        try:
            model.model_validate({**found, name: info.examples[0]})
        except ValidationError:
            continue  # it contradicts what is there already, or is not on this machine
        found[name] = info.examples[0]
    return found


def _about(model: type[BaseModel]) -> Iterator[str]:
    yield from inspect.cleandoc(model.__doc__ or model.__name__).splitlines()
    yield ""
    yield "A key with a # before it has its default. ${NAME} and ${NAME:-default} take a value from a variable."


def _said(info: FieldInfo) -> list[str]:
    import textwrap

    return [f"# {line}" for line in textwrap.wrap(" ".join((info.description or "").split()), WIDTH)]


def _shown(info: FieldInfo) -> Any:
    """What stands in the comment: the default, or an example where the default is nothing."""
    default = None if info.is_required() else info.get_default(call_default_factory=True, validated_data={})
    return info.examples[0] if default in (None, (), [], {}, "") and info.examples else default


def _yaml(name: str, value: Any) -> list[str]:
    import yaml
    from pydantic import TypeAdapter

    plain = TypeAdapter(Any).dump_python(value, mode="json")
    return str(yaml.safe_dump({name: plain}, sort_keys=False, allow_unicode=True, width=WIDTH)).rstrip().splitlines()
