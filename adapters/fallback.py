"""The fallback adapter: a chain of others, tried one after another while what fails is the place and not the run."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from adapters.fallback_chain.course import Course
from adapters.fallback_chain.rules import ANOTHER_PLACE_MAY_HELP, perhaps_started, unsafe_step
from adapters.fallback_chain.target import Target, TargetOpen
from osiris_core.adapter import ExecutionAdapter
from osiris_core.config import AdapterConfig
from osiris_core.context import ExecutionContext
from osiris_core.earlier_run import EarlierRun
from osiris_core.errors import (
    AdapterNotInstalled,
    ConfigError,
    ExecutionError,
    OsirisError,
    PhaseError,
    PreparationError,
    Problem,
    UnknownAdapter,
)
from osiris_core.recorded_settings import recordable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from osiris_core.collection import Run
    from osiris_core.leftovers import Leftover
    from osiris_core.manifest import Manifest
    from osiris_core.prepared import PreparedRun
    from osiris_core.records import RunSummary
    from osiris_core.report import RunReport


OWN_GAPS = {"retries-used-up": "a step that has no room on one target is tried on the next"}


class FallbackConfig(AdapterConfig):
    """Settings of the fallback adapter. `code` and the like are for all targets that do not say otherwise."""

    type: Literal["fallback"] = Field(default="fallback", description="Selects this adapter.")
    chain: tuple[str | dict[str, Any], ...] = Field(
        default=("docker", "process"),
        min_length=1,
        description="The targets in their order: adapters by name, or their settings with `type`.",
        examples=[["docker", "local"], [{"type": "docker", "memory": "2g"}, "process"]],
    )
    breaker_failures: int = Field(
        default=3,
        ge=1,
        description="After so many failures of its infrastructure in a row a target is passed over by this process.",
    )
    breaker_pause_s: float = Field(default=60.0, gt=0, description="How long it is passed over, until it is tried.")

    @field_validator("chain")
    @classmethod
    def _targets_are_adapters(cls, chain: tuple[str | dict[str, Any], ...]) -> tuple[str | dict[str, Any], ...]:
        for target in chain:
            name = target if isinstance(target, str) else target.get("type")
            if not isinstance(name, str) or not name:
                raise ValueError("a target is the name of an adapter, or its settings with `type`")
            if name == "fallback":
                raise ValueError("a chain in a chain says nothing that one chain does not say")
        return chain


class FallbackAdapter(ExecutionAdapter):
    """
    Runs a manifest on the first target of its chain that can be had, and moves on when the infrastructure fails.

    Never for an error of the run's own, and never when a step that was started might do twice what it does outside of
    the run. `fallback` in the report says where it ran, and why not elsewhere.
    """

    name = "fallback"
    Config: ClassVar[type[AdapterConfig]] = FallbackConfig
    example: ClassVar[str] = """\
type: fallback
chain:
  - {type: docker, memory: 2g}
  - process
"""
    config: FallbackConfig

    def __init__(self, config: AdapterConfig | None = None) -> None:
        super().__init__(config)
        self._targets = list(_made(self.config))
        self._courses: dict[str, Course] = {}

    @property
    def environments(self) -> Collection[str]:
        return {target.name for target in self._targets}

    @property
    def known_gaps(self) -> Mapping[str, str]:
        """Those of the target that runs would be on now, and its own."""
        usable = (target.adapter.known_gaps for target in self._targets if target.unusable() is None)
        return {**next(usable, {}), **OWN_GAPS}

    def prepare(self, manifest: str | Path | Mapping[str, object] | Manifest, context: ExecutionContext) -> PreparedRun:
        tried: list[dict[str, Any]] = []
        target = self._usable(0, tried)
        if target is None:
            raise _none_left(tried)
        started_s = monotonic()
        prepared = target.adapter.prepare(manifest, context)
        prepare_ms = (monotonic() - started_s) * 1000
        self._courses[context.session_dir] = Course(manifest, context, target, prepared, tried, prepare_ms=prepare_ms)
        return prepared

    def execute(self, prepared: PreparedRun, context: ExecutionContext) -> None:
        course = self._course(prepared, context)
        if not course.moved:
            course.prepared = prepared
        course.begun_s = monotonic()
        while True:
            try:
                course.target.execute(course.prepared, self._context(course, context))
            except TargetOpen as exc:
                course.tried.append(_entry(course.target, str(exc)))
                following = self._following(course, context) if course.manifest is not None else None
                if following is None:
                    raise _none_left(course.tried) from None
                course.target, course.prepared = following
            except ExecutionError as exc:
                if not self._moves_on_after(exc, course, context):
                    raise
            else:
                return

    def collect(self, prepared: PreparedRun, context: ExecutionContext) -> RunReport:
        course = self._course(prepared, context)
        return course.target.adapter.collect(course.prepared, self._context(course, context))

    def run(
        self,
        manifest: str | Path | Mapping[str, object] | Manifest,
        context: ExecutionContext | None = None,
    ) -> RunReport:
        context = context or ExecutionContext()
        prepared = self.prepare(manifest, context)
        try:
            self.execute(prepared, context)
        except ExecutionError:
            pass
        except BaseException:
            with suppress(PhaseError):
                self.collect(prepared, context)
            raise
        return self.collect(prepared, context)

    def attach(
        self, session_dir: str | Path, context: ExecutionContext | None = None, *, cancel: str | None = None
    ) -> RunReport:
        earlier = EarlierRun.read(session_dir)
        named = [target for target in self._targets if target.name == earlier.adapter]
        if not named:
            earlier.check_adapter(f"fallback to {', '.join(target.label for target in self._targets)}")
        if (missing := named[0].missing) is not None:
            raise AdapterNotInstalled(missing)
        recorded = earlier.recorded.get("config", {})
        as_it_was = [target for target in named if recordable(target.adapter.config, ()) == recorded]
        return (as_it_was or named)[0].adapter.attach(session_dir, context, cancel=cancel)

    def cancel(self, reason: str = "") -> None:
        for course in list(self._courses.values()):
            course.cancelled = course.cancelled or reason or "cancel was called"
        self.stop(reason)

    def close(self) -> None:
        for target in self._targets:
            if target.missing is None:
                target.adapter.close()
        self._courses.clear()

    @classmethod
    def setup(cls, config: AdapterConfig, progress: Callable[[str], None]) -> str | None:
        made = []
        for target in cls(config)._targets:
            if target.missing is not None:
                progress(f"{target.label}: {target.missing}")
            elif (what := target.adapter.setup(target.adapter.config, progress)) is not None:
                made.append(what)
        return "; ".join(made) or None

    def unusable(self) -> str | None:
        reasons = [target.unusable() for target in self._targets]
        return None if None in reasons else "; ".join(filter(None, reasons))

    def leftovers(self, session_dirs: Iterable[Path]) -> list[Leftover]:
        session_dirs = list(session_dirs)
        adapters = {target.name: target.adapter for target in self._targets if target.missing is None}
        return [item for adapter in adapters.values() for item in adapter.leftovers(session_dirs)]

    def start(self, run: Run, context: ExecutionContext) -> RunSummary:  # noqa: ARG002 - the contract's
        raise PhaseError("the targets of a chain start runs, the chain does not")

    def stop(self, reason: str) -> None:
        for target in self._targets:
            if target.missing is None:
                target.adapter.cancel(reason)

    # Along the chain.

    def _course(self, prepared: PreparedRun, context: ExecutionContext) -> Course:
        """The run's course; of one that was restored from JSON it begins where it was prepared for."""
        if context.session_dir not in self._courses:
            for target in self._targets:
                if target.name == prepared.adapter and target.missing is None:
                    self._courses[context.session_dir] = Course(None, context, target, prepared)
                    break
            else:
                message = f"this run was prepared for '{prepared.adapter}', which is not in the chain or not installed"
                raise PreparationError([Problem(message, key="fallback.chain")])
        return self._courses[context.session_dir]

    @staticmethod
    def _context(course: Course, given: ExecutionContext) -> ExecutionContext:
        notices = tuple(f"{item['target']} was passed over: {item['reason']}" for item in course.tried)
        facts = {"target": course.target.label, "tried": course.tried, "stayed": course.stayed}
        return replace(
            given,
            resume=given.resume or course.moved,
            earlier_ms=course.earlier_ms,
            notices=given.notices + notices,
            facts={**given.facts, "fallback": facts},
        )

    def _usable(self, start: int, tried: list[dict[str, Any]]) -> Target | None:
        """The first target from there on that can be had, as far as can be told without running anything."""
        for target in self._targets[start:]:
            if (reason := target.unusable()) is None:
                return target
            tried.append(_entry(target, reason))
        return None

    def _moves_on_after(self, error: ExecutionError, course: Course, context: ExecutionContext) -> bool:
        """
        Whether the run goes on elsewhere; its place here is free then, and what it left is home.

        That comes first: only then is it known which steps were started, and that no more of them can be.
        """
        if course.manifest is None or course.cancelled is not None or not ANOTHER_PLACE_MAY_HELP[error.failure_class]:
            return False
        left_behind = course.target.adapter.come_home(context)
        earlier = EarlierRun.read(context.session_dir)
        steps = course.prepared.steps
        begun = perhaps_started(earlier.told, steps, place_is_gone=left_behind is None)
        unsafe = unsafe_step(steps, begun, error.failure_class)
        if unsafe is not None:
            was = "was started" if unsafe in earlier.told.started else f"may be running where it was ({left_behind})"
            course.stayed = f"step '{unsafe}' {was}, and might do twice what it does outside of the run"
            return False
        if (left_s := course.left_s()) is not None and left_s <= 0:
            course.stayed = f"the time of the run is used up ({course.context.timeout:g} s)"
            return False
        entry = _entry(course.target, str(error))
        entry |= {"failure_class": str(error.failure_class), "attempt": earlier.recorded["attempt"]}
        course.tried.append(entry)
        so_far_s = monotonic()
        following = self._following(course, replace(context, timeout=left_s))
        if following is None:
            return False
        prepare_s = monotonic() - so_far_s  # booked as what it is, by the next target
        course.target.adapter.collect(course.prepared, self._context(course, context))
        course.earlier_ms = course.prepare_ms + (monotonic() - course.begun_s - prepare_s) * 1000
        course.target, course.prepared = following
        course.moved = True
        if course.cancelled is not None:  # it came in between
            course.target.adapter.cancel(course.cancelled)
        return True

    def _following(self, course: Course, context: ExecutionContext) -> tuple[Target, PreparedRun] | None:
        """The next target that can be had and takes the run, with the run prepared for it."""
        index = self._targets.index(course.target) + 1
        while (target := self._usable(index, course.tried)) is not None:
            assert course.manifest is not None
            try:
                return target, target.adapter.prepare(course.manifest, context)
            except OsirisError as exc:  # what this one cannot enforce
                course.tried.append(_entry(target, str(exc)))
                index = self._targets.index(target) + 1
        return None


def _made(config: FallbackConfig) -> Iterator[Target]:
    """
    The targets of a chain.

    Raises:
        ConfigError: Settings of some do not fit, or adapters are not known: all of them at once.
    """
    common = {name: getattr(config, name) for name in AdapterConfig.model_fields if name in config.model_fields_set}
    problems: list[Problem] = []
    for number, item in enumerate(config.chain):
        settings = {**common, **({"type": item} if isinstance(item, str) else item)}
        twice = [other if isinstance(other, str) else other["type"] for other in config.chain].count(
            settings["type"]
        ) > 1
        label = f"{settings['type']} ({number + 1})" if twice else str(settings["type"])
        place = f"fallback.chain.{number}"
        try:
            yield Target.make(settings, label, config.breaker_failures, config.breaker_pause_s)
        except ConfigError as exc:
            problems += [replace(problem, key=f"{place}.{problem.key}") for problem in exc.problems]
        except UnknownAdapter as exc:
            problems.append(Problem(str(exc), key=place))
    if problems:
        raise ConfigError(problems)


def _none_left(tried: Iterable[Mapping[str, Any]]) -> PreparationError:
    found = "; ".join(f"{item['target']}: {item['reason']}" for item in tried)
    return PreparationError([Problem(f"no target of the chain can be used: {found}", key="fallback.chain")])


def _entry(target: Target, reason: str, **more: Any) -> dict[str, Any]:
    return {"target": target.label, "reason": reason, **more}
