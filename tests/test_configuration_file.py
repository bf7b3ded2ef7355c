"""Configuration files: includes, variables typed by their field, secrets that stay names, problems with lines."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from osiris_core import ModelRun
from osiris_core.configuration_file import load_as, parse_trees, read_configuration, read_trees
from osiris_core.configurations.expressions import ExpressionError, expand, keep_names
from osiris_core.configurations.validation import validated
from osiris_core.errors import ConfigError, ManifestError, PreparationError
from osiris_core.host_paths import HostPath
from osiris_core.secrets import escape, substitute

if TYPE_CHECKING:
    from pathlib import Path

VALUES = {"A": "one", "N": "8", "EMPTY": "", "DAY": "2026-11-20", "API_TOKEN": "hunter2-token", "DATA": "grids"}


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    depth: int = 0


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)
    type: Literal["demo"] = "demo"
    count: int = 1
    ratio: float = 0.5
    on: bool = False
    text: str = ""
    maybe: int | None = 3
    size: Annotated[int | str, Field(union_mode="left_to_right")] = 0
    when: datetime | None = None
    names: list[str] = []
    folder: Annotated[str, HostPath()] = "."
    file: Annotated[str | None, HostPath(within="folder")] = None
    mounts: Annotated[tuple[str, ...], HostPath(mount=True)] = ()
    inner: Inner = Inner()
    env_vars: dict[str, str] = {}
    key: SecretStr | None = None
    anything: dict[str, Any] = {}


def load(text: str, model: type[BaseModel] = Settings) -> Any:
    (tree,) = parse_trees(text, "c.yaml", values=VALUES)
    return validated(tree, model, VALUES)


def problems(text: str) -> list[str]:
    with pytest.raises(PreparationError) as caught:
        load(text)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("${A}", "one"),
        ("a${A}-${N}z", "aone-8z"),
        ("${GONE:-x}", "x"),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY}", ""),
        ("${GONE:-}", ""),
        ("${GONE:-${ALSO:-24}h}", "24h"),
        ("${GONE:-${A}/${N:-1}}", "one/8"),
        ("$${A}", "${A}"),
        ("$$${A}", "$${A}"),
        ("$A $(A) $", "$A $(A) $"),
        ("${GONE:-$${A}}", "${A}"),
        ("${GONE:-a|b}", "a|b"),
        (r"${GONE:-a\|strftime}", "a|strftime"),
        ("${GONE:-{a: {b: 1}}}", "{a: {b: 1}}"),
        ("${A:-{a: {b: 1}}}.", "one."),
        ("${DAY|strftime:%Y%m%d}", "20261120"),
        ("${DAY|as_datetime}", "2026-11-20T00:00:00"),
        ("${DAY|shift:+1d}", "2026-11-21T00:00:00"),
        ("${DAY|shift:-6h|strftime:%H:%M}", "18:00"),
        ("${GONE:-20/11/2026|as_datetime:%d/%m/%Y|strftime:%j}", "324"),
        (r"${DAY|strftime:%d\|%m}", "20|11"),
    ],
)
def test_expressions(text: str, value: str) -> None:
    """A variable, a default however deep, an escape, and the filters give what they say."""
    assert expand(text, VALUES) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${GONE}", "the variable GONE is not set"),
        ("${GONE:-${ALSO}}", "the variable ALSO is not set"),
        ("${A", "is no expression"),
        ("${1}", "is no expression"),
        ("${A%.*}", "is no expression"),
        ("${A:-{x}", "is no expression"),
        ("${A:-x", "is no expression"),
        ("${A|upper}", "there is no filter 'upper'"),
        ("${GONE:-2026|strftim:%Y}", "there is no filter 'strftim'"),
        ("${A|as_datetime}", "its value is no time"),
        ("${DAY|shift:tomorrow}", "shift takes"),
        ("${DAY|shift:1d2}", "shift takes"),
        ("${DAY|strftime}", "strftime needs a form"),
        ("${DAY|shift:+99999999d}", "leaves the calendar"),
    ],
)
def test_an_expression_that_does_not_work_says_why(text: str, words: str) -> None:
    """Nothing is left in place silently: shell syntax, typing errors and missing variables are errors."""
    with pytest.raises(ExpressionError, match=words):
        expand(text, VALUES)


@given(st.text(alphabet="a${}:-|\\ X", max_size=30))
def test_any_text_can_be_escaped_and_none_crashes(text: str) -> None:
    """What `escape` made is read as the text it was; any other text gives a text or an ExpressionError."""
    assert expand(escape(text), {}) == text
    try:
        expand(text, {"X": "1"})
    except ExpressionError:
        return


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("${A}", "${A}"),
        ("x${A}y", "x${A}y"),
        ("${GONE:-${A}}", "${A}"),
        ("${GONE:-4}", "4"),
        ("${A:-4}", "${A}"),
        ("$${A}", "$${A}"),
        ("${DAY|strftime:%Y}", "2026"),
    ],
)
def test_names_are_kept_where_secrets_may_stand(text: str, kept: str) -> None:
    """A variable that is set stays a name; put in at last, it gives what the expression gives."""
    assert keep_names(text, VALUES) == kept
    assert substitute(kept, VALUES) == expand(text, VALUES)


def test_values_have_the_type_of_their_field() -> None:
    """The same text is a number, a text, a boolean, a time, null or a list, as its field wants it."""
    found = load(
        "count: ${N}\nratio: '${GONE:-1e3}'\non: ${GONE:-no}\ntext: ${GONE:-1}\nmaybe: ${EMPTY}\nsize: ${GONE:-2g}\n"
        "when: ${DAY|shift:+1d}\nnames: ${GONE:-[a, '1']}\ninner: {depth: '${N}0'}\n"
        "anything: {n: '${N}', t: '${GONE:-true}'}\n"
    )
    assert (found.count, found.ratio, found.on, found.text, found.maybe) == (8, 1000.0, False, "1", None)
    assert (found.size, found.when, found.names) == ("2g", datetime(2026, 11, 21), ["a", "1"])
    assert found.inner.depth == 80
    assert found.anything == {"n": "8", "t": "true"}, "without a schema a text stays one"


@pytest.mark.parametrize("value", ["1", "true", "007", "1e5", "no", "null", "2026-11-20", "[a]", "{}"])
def test_a_text_field_takes_a_value_as_it_is(value: str) -> None:
    """What looks like a number, a boolean or a list is still the text where a text is meant."""
    (tree,) = parse_trees("text: ${V}\nenv_vars: {X: '${V}'}", "c.yaml", values={"V": value})
    found = validated(tree, Settings, {"V": value})
    assert found.text == value
    assert substitute(found.env_vars["X"], {"V": value}) == value


def test_a_number_from_a_variable_fits_a_text_and_defaults_nest() -> None:
    """What samples of other systems say and these refuse: `${N:-4}` as a variable, a default with another in it."""
    found = load("env_vars: {OMP_NUM_THREADS: '${GONE:-4}'}\ntext: ${GONE:-${ALSO:-24}h}\n")
    assert substitute(found.env_vars, {}) == {"OMP_NUM_THREADS": "4"}
    assert found.text == "24h"


@pytest.mark.parametrize("source", ["file.yaml", "file.json", "$OSIRIS_CONFIG"])
def test_variables_mean_the_same_wherever_they_stand(source: str) -> None:
    """In YAML, JSON and a text from the environment: typed by the field, with an escape, `|` in a default."""
    names = ["$${N}", "${GONE:-a|b}", "${GONE:-no}"]
    text = json.dumps({"text": "${GONE:-007}", "on": "${GONE:-1}", "ratio": "${GONE:-1e5}", "names": names})
    (tree,) = parse_trees(text, source)
    found = validated(tree, Settings, VALUES)
    assert (found.text, found.on, found.ratio) == ("007", True, 100000.0)
    assert found.names == ["${N}", "a|b", "no"]


def test_a_secret_travels_by_name() -> None:
    """In env_vars the name is kept; elsewhere a variable that is a secret by its name is refused, but for SecretStr."""
    found = load("env_vars: {TOKEN: 'Bearer ${API_TOKEN}', N: '${N}'}\nkey: ${API_TOKEN}\n")
    assert found.env_vars == {"TOKEN": "Bearer ${API_TOKEN}", "N": "${N}"}
    assert found.key.get_secret_value() == VALUES["API_TOKEN"]
    assert VALUES["API_TOKEN"] not in repr(found) + json.dumps(found.model_dump(mode="json"))
    (told,) = problems("text: curl -H ${API_TOKEN}\n")
    assert told.startswith("c.yaml:1: text: API_TOKEN is a secret by its name")
    assert "env_vars (API_TOKEN: ${API_TOKEN})" in told
    assert VALUES["API_TOKEN"] not in told
    (filtered,) = problems("env_vars: {YEAR: '${API_TOKEN|strftime:%Y}'}\n")
    assert "no filter can look at it" in filtered
    assert VALUES["API_TOKEN"] not in filtered
    assert problems("anything: {a: ['${GONE:-${API_TOKEN}}']}\n")[0].startswith("c.yaml:1: anything.a.0: API_TOKEN")


def test_every_problem_at_once() -> None:
    """Expressions, wrong values and unknown keys come together, each with its line and the nearest name."""
    text = "count: many\ncomand: x\ntext: ${GONE}\ninner:\n  dept: 1\nenv_vars:\n  A: 1\n"
    assert problems(text) == [
        "c.yaml:1: count: Input should be a valid integer, unable to parse string as an integer",
        "c.yaml:2: comand: there is no such key",
        "c.yaml:3: text: the variable GONE is not set (export it, or write ${GONE:-default})",
        "c.yaml:5: inner.dept: there is no such key (did you mean 'depth'?)",
        "c.yaml:7: env_vars.A: must be a text",
    ]
    assert problems("- 1\n") == ["c.yaml: a configuration is a mapping"]
    assert "write it in quotes" in problems("1: a\n")[0]


def test_keys_may_have_variables() -> None:
    """As values do; two that become one are an error."""
    assert load("env_vars: {'${A}_X': y}").env_vars == {"one_X": "y"}
    assert "stands twice" in problems("env_vars: {'${A}': y, one: z}")[0]


def test_includes(tmp_path: Path) -> None:
    """A file, a part of one, a merge, a file that includes others; lines are those of the file where a value stands."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "main.yaml").write_text(
        "<<: !include parts/base.yaml\ncount: 2\ninner: !include 'parts/${KIND:-deep}.json'\n"
        "names: [x, !include parts/name.yaml]\n"
    )
    (tmp_path / "parts" / "base.yaml").write_text("count: 1\ntext: base\nenv_vars: !include more/env.yaml\n")
    (tmp_path / "parts" / "more").mkdir()
    (tmp_path / "parts" / "more" / "env.yaml").write_text("# c\nA: b\n")
    (tmp_path / "parts" / "deep.json").write_text('{\n "depth": 5}')
    (tmp_path / "parts" / "name.yaml").write_text("included name")
    found = load_as(Settings, tmp_path / "main.yaml", values={})
    assert (found.count, found.text, found.inner.depth, found.env_vars) == (2, "base", 5, {"A": "b"})
    assert found.names == ["x", "included name"]
    (tmp_path / "parts" / "more" / "env.yaml").write_text("# c\nA: 1\n")
    (tmp_path / "parts" / "deep.json").write_text('{\n "depht": 5}')
    with pytest.raises(ConfigError) as caught:
        load_as(Settings, tmp_path / "main.yaml", values={})
    assert [str(problem).removeprefix(f"{tmp_path}/") for problem in caught.value.problems] == [
        "parts/deep.json:2: inner.depht: there is no such key (did you mean 'depth'?)",
        "parts/more/env.yaml:2: env_vars.A: must be a text",
    ]


def test_includes_that_cannot_be(tmp_path: Path) -> None:
    """A circle is told with its chain, a missing file with the nearest, and all of them at once."""
    (tmp_path / "a.yaml").write_text(
        "x: !include b.yaml\ny: !include bb.yaml\nz: !include two.yaml\n<<: !include l.yaml\n"
    )
    (tmp_path / "b.yaml").write_text("\nx: [!include c.yaml]\n")
    (tmp_path / "c.yaml").write_text("x: !include ./b.yaml\n")
    (tmp_path / "two.yaml").write_text("a: 1\n---\nb: 1\n")
    (tmp_path / "l.yaml").write_text("[1]\n")
    with pytest.raises(ManifestError) as caught:
        read_trees(tmp_path / "a.yaml", values={})
    told = [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems]
    assert told == [
        "c.yaml:1: the include goes round in a circle: b.yaml -> c.yaml -> b.yaml",
        "a.yaml:2: the included file is not there: bb.yaml (did you mean 'b.yaml'?)",
        "a.yaml:3: two.yaml holds 2 documents; only a file of one can be included",
        "a.yaml:4: l.yaml holds no mapping, so its keys cannot be merged",
    ]


def test_an_include_is_no_place_for_a_secret(tmp_path: Path) -> None:
    """Its path would be shown."""
    (tmp_path / "a.yaml").write_text("x: !include ${API_TOKEN}.yaml\n")
    with pytest.raises(ManifestError, match="API_TOKEN is a secret") as caught:
        read_trees(tmp_path / "a.yaml", values=VALUES)
    assert VALUES["API_TOKEN"] not in str(caught.value)


def test_includes_end(tmp_path: Path) -> None:
    """Ten deep is allowed and eleven is not; files that multiply are stopped."""
    for depth in range(12):
        (tmp_path / f"{depth}.yaml").write_text(f"x: !include {depth + 1}.yaml\n")
    (tmp_path / "12.yaml").write_text("end\n")
    assert read_trees(tmp_path / "2.yaml", values={})
    with pytest.raises(ManifestError, match="more than 10 deep"):
        read_trees(tmp_path / "1.yaml", values={})
    for depth in range(8):
        (tmp_path / f"m{depth}.yaml").write_text("[" + ", ".join([f"!include m{depth + 1}.yaml"] * 4) + "]\n")
    (tmp_path / "m8.yaml").write_text("end\n")
    with pytest.raises(ManifestError, match="more than 1000 files"):
        read_trees(tmp_path / "m0.yaml", values={})


def test_aliases_do_not_multiply(tmp_path: Path) -> None:
    """A small file that would become a huge configuration is refused before it does."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 7)]
    (tmp_path / "c.yaml").write_text("\n".join(lines))
    with pytest.raises(ManifestError, match="values in one configuration"):
        read_trees(tmp_path / "c.yaml", values={})


@given(st.text(alphabet="a:-$ {}[]!&*<|#'\"\n\ttype", max_size=60))
def test_no_text_crashes(text: str) -> None:
    """Whatever a file holds, there is a configuration, or problems."""
    with suppress(PreparationError):
        for tree in parse_trees(text, "c.yaml", values={}):
            validated(tree, Settings, {})


def test_paths_start_at_the_file_they_stand_in(tmp_path: Path) -> None:
    """Paths of this machine, the host's side of a mount, and a file that may lie within another field's folder."""
    inner = tmp_path / "inner"
    (inner / "build").mkdir(parents=True)
    (inner / "build" / "Dockerfile").write_text("")
    (tmp_path / "c.yaml").write_text(
        "<<: !include inner/i.yaml\nmounts: ['./d:/d:ro', '/abs:/x', '${DATA}:/g', named]\n"
    )
    (inner / "i.yaml").write_text("folder: build\nfile: Dockerfile\n")
    found = load_as(Settings, tmp_path / "c.yaml", values=VALUES)
    assert found.folder == str(inner / "build")
    assert found.file == "Dockerfile", "it is in its folder, and stays relative to it"
    assert found.mounts == (f"{tmp_path}/d:/d:ro", "/abs:/x", f"{tmp_path}/grids:/g", "named")
    (inner / "i.yaml").write_text("folder: .\nfile: build/../other\n")
    (inner / "other").write_text("")
    (tmp_path / "elsewhere").mkdir()
    (inner / "i.yaml").write_text("folder: ../elsewhere\nfile: other\n")
    assert load_as(Settings, tmp_path / "c.yaml", values=VALUES).file == str(inner / "other")


def test_files_of_several_documents(tmp_path: Path) -> None:
    """A model takes the document of its type; where that is none or several, it is an error that says so."""
    path = tmp_path / "c.yaml"
    path.write_text("type: other\n---\ntype: demo\ncount: 5\n")
    assert load_as(Settings, path, values={}).count == 5
    path.write_text("type: other\n---\ntype: demo\ncount: x\n")
    with pytest.raises(ConfigError) as caught:
        load_as(Settings, path, values={})
    assert [problem.line for problem in caught.value.problems] == [4]
    path.write_text("type: demo\n---\ntype: demo\n")
    with pytest.raises(ManifestError, match="2 of type 'demo'"):
        load_as(Settings, path, values={})
    path.write_text("run_id: a\n---\nrun_id: b\n")
    with pytest.raises(ManifestError, match="2 documents; no way to tell which is meant"):
        load_as(ModelRun, path, values={})
    path.write_text("type: demo\n---\ntype: demo\n")
    with pytest.raises(ManifestError, match="a second document starts here") as refused:
        read_configuration(path)
    assert refused.value.problems[0].line == 3


def test_reading_without_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of this process are texts; JSON has them too; what is missing is FileNotFoundError, as for any file."""
    monkeypatch.setenv("CONFIGURED", "7")
    (tmp_path / "c.json").write_text('{"a": ["${CONFIGURED}"], "b": 1}')
    assert read_configuration(tmp_path / "c.json") == {"a": ["7"], "b": 1}
    with pytest.raises(FileNotFoundError, match="Configuration file not found"):
        read_configuration(tmp_path / "gone.yaml")
    (tmp_path / "c.json").write_text('{\n"a": "${NOT_SET_ANYWHERE}"}')
    with pytest.raises(ConfigError) as caught:
        read_configuration(tmp_path / "c.json")
    assert caught.value.problems[0].line == 2


class WithOwnNames(Settings):
    NAMED_FIELDS: ClassVar[frozenset[str]] = frozenset({"anything"})


def test_a_model_names_its_fields_of_secrets() -> None:
    """`NAMED_FIELDS` says in which fields names stay names, at any depth below."""
    found = load("anything: {a: ['${API_TOKEN}']}\ntext: ${A}", WithOwnNames)
    assert found.anything == {"a": ["${API_TOKEN}"]}
    assert found.text == "one"


def test_configurations_within_one(tmp_path: Path) -> None:
    """Each step of a chain is read as the class that its type names: with its paths, variables and lines."""
    from osiris_core.models.postprocess_config import BasePostprocessorConfig

    path = tmp_path / "chain.yaml"
    path.write_text(
        "type: chain\nsteps:\n  - {type: archive, archive: packed/x.zip, format: '${FORM:-zip}'}\n"
        "  - type: report\n    checksums: ${SUMS:-no}\n"
    )
    archive, report = load_as(BasePostprocessorConfig, path, values={}).steps  # type: ignore[attr-defined]
    assert (archive.archive, archive.format, report.checksums) == (tmp_path / "packed" / "x.zip", "zip", False)
    path.write_text("type: chain\nsteps:\n  - type: archive\n    formt: zip\n  - type: nop\nfailure_policy: x\n")
    with pytest.raises(ConfigError) as caught:
        load_as(BasePostprocessorConfig, path, values={})
    assert [(problem.line, problem.key, problem.hint) for problem in caught.value.problems] == [
        (4, "steps.0.formt", "did you mean 'format'?"),
        (5, "steps.1.type", "did you mean 'noop'?"),
        (6, "failure_policy", None),
    ]


def test_processor_files_as_their_users_know_them(tmp_path: Path) -> None:
    """`load_processor_config` is this reader: variables by type, paths from the file, a ValueError with every line."""
    from osiris_core.backends import load_processor_config, validate_postprocessor_config

    path = tmp_path / "p.yaml"
    path.write_text("type: archive\nformat: ${PACKED_AS:-zip}\narchive: packed/x.zip\n")
    assert load_processor_config(path).archive == tmp_path / "packed" / "x.zip"
    path.write_text("type: report\ntimeout: 5\nchecksum: no\n")
    with pytest.raises(ValueError, match=r"p.yaml:2: timeout: .*\n.*p.yaml:3: checksum: .*did you mean 'checksums'"):
        load_processor_config(path)
    path.write_text("type: nop\n")
    with pytest.raises(ValueError, match=r"Unknown processor type: 'nop'\. Available types: archive"):
        load_processor_config(path)
    ok, message, config = validate_postprocessor_config(path)
    assert (ok, config) == (False, None)
    assert "Unknown processor type" in message
