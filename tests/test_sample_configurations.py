"""Every sample configuration is valid as it stands, and there is one of every kind and type that is built in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from osiris_core.cli.checked import checked_file
from osiris_core.cli.template import as_document, template
from osiris_core.configuration_file import load_as, parse_trees, read_trees
from osiris_core.configurations.kinds import type_of
from osiris_core.configurations.validation import validated
from osiris_core.models.model_run import ModelRun
from osiris_core.models.pipeline_file import PipelineFile, PipelineOptions, pipeline_schema
from osiris_core.models.registries import CONFIGS, POSTPROCESSOR_CONFIGS

SAMPLES = Path(__file__).resolve().parent.parent / "examples" / "configurations"
FILES = sorted([*SAMPLES.glob("*.yaml"), *SAMPLES.glob("*.json"), *SAMPLES.glob("*/*.yaml")])
PATHS = {"code", "archive", "report", "output_dir"}
MODELS = {
    **{("backend", name): CONFIGS.load(name) for name in CONFIGS.names()},
    **{("postprocessor", name): POSTPROCESSOR_CONFIGS.load(name) for name in POSTPROCESSOR_CONFIGS.names()},
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_sample_is_valid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From any working directory, with no variable set."""
    monkeypatch.chdir("/")
    for name in ("MODEL_TIMEOUT_S", "NUM_THREADS", "OSIRIS_ENV"):
        monkeypatch.delenv(name, raising=False)
    found = checked_file(str(path))
    assert found
    assert [problem for item in found for problem in item.problems] == []


def test_there_is_a_sample_of_every_type() -> None:
    """Of every built-in backend and postprocessor, of a model run and of a pipeline."""
    found = {(item.kind, item.name) for path in FILES for item in checked_file(str(path))}
    assert set(MODELS) - found == set()
    assert {"model run", "pipeline"} <= {kind for kind, _ in found}


@pytest.mark.parametrize("key", MODELS, ids=lambda key: key[1])
def test_schemas_and_examples(key: tuple[str, str]) -> None:
    """Every key has a description; examples, and a file that is made from it, are valid by the schema and by us."""
    model: Any = MODELS[key]
    schema = model.model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert all(field.get("description") for field in schema["properties"].values())
    assert schema["examples"]
    for example in [*schema["examples"], as_document(model), as_document(model, with_examples=True)]:
        jsonschema.validate(example, schema)
        assert model.model_validate(example)
    for text in (template(model), template(model, with_examples=True), template(model, commented=False)):
        (tree,) = parse_trees(text, "made.yaml", values={})
        assert type_of(tree) == ("type", key[1])
        validated(tree, model, {})


@pytest.mark.parametrize("key", MODELS, ids=lambda key: key[1])
def test_round_trips(key: tuple[str, str], tmp_path: Path) -> None:
    """As a dictionary, as JSON, and through a file, a configuration is the same again."""
    model: Any = MODELS[key]
    # A relative path in a file starts at the file: without any, what is read is what was written.
    example = {name: value for name, value in as_document(model, with_examples=True).items() if name not in PATHS}
    config = model.model_validate(example)
    assert model(**config.model_dump()) == config
    assert model.model_validate_json(config.model_dump_json()) == config
    with (tmp_path / "config.json").open("w") as file:
        json.dump(config.model_dump(), file)
    assert model.from_file(tmp_path / "config.json") == config


def test_a_template_says_what_every_key_does() -> None:
    """Each key of the model is in it, set or as a comment, after its description."""
    for model in MODELS.values():
        lines = template(model).splitlines()
        for name, info in model.model_fields.items():
            at = next(index for index, line in enumerate(lines) if line.removeprefix("# ").startswith(f"{name}:"))
            assert lines[at - 1].startswith("# "), name
            assert info.description
            assert info.description.split()[-1] in lines[at - 1], name


def test_the_schema_of_a_pipeline() -> None:
    """A sample pipeline is valid by it once its includes are in, and what is not one is refused."""
    (tree,) = read_trees(SAMPLES / "pipeline.yaml", values={})
    schema = pipeline_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(tree.data, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**tree.data, "backend": {"type": "docker", "cpus": 1}}, schema)
    assert set(PipelineOptions.model_fields) < set(schema["properties"])


def test_samples_mean_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables are typed, environments are chosen, and the sections of a pipeline are what their files say."""
    for name, value in {"NUM_THREADS": "8", "DAY": "2026-12-31", "STREAM": "yes", "OSIRIS_ENV": "production"}.items():
        monkeypatch.setenv(name, value)
    templated = load_as(CONFIGS.load("local"), SAMPLES / "templated.yaml")
    assert templated.command.endswith("--day 20261231 --until 20270101")
    assert templated.stream_output is True
    assert templated.env_vars == {
        "OMP_NUM_THREADS": "${NUM_THREADS}",
        "CACHE_AGE": "24h",
        "GREETING": "$${NOT_A_VARIABLE} stays as it is",
    }
    assert load_as(CONFIGS.load("docker"), SAMPLES / "environments.yaml").image.endswith(":production")
    docker = load_as(CONFIGS.load("docker"), SAMPLES / "docker.yaml")
    assert docker.volumes == (f"{SAMPLES}/template:/app/template:ro",)
    assert load_as(CONFIGS.load("docker"), SAMPLES / "backends.yaml").type == "docker"
    assert ModelRun.from_file(SAMPLES / "model.yaml").template == SAMPLES / "template"
    pipeline = PipelineFile.from_file(SAMPLES / "pipeline.yaml")
    assert (pipeline.model_run.run_id, pipeline.backend.timeout) == ("plain", 600)
    assert [step.type for step in pipeline.postprocessor.steps] == ["noop", "archive"]


def test_the_examples_of_adapters() -> None:
    """What `osiris backends show` prints as an adapter's example is valid too."""
    from osiris_core.factory import AdapterFactory

    for name in AdapterFactory.available():
        adapter = AdapterFactory.load(name)
        for tree in parse_trees(getattr(adapter, "example", "") or f"type: {name}", "example.yaml", values={}):
            validated(tree, adapter.Config, {})
