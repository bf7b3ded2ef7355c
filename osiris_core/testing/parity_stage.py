"""What parity scenarios share: input files, the user's modules, and one run of each scenario on `local`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from osiris_core.factory import AdapterFactory
from osiris_core.testing.parity_outcome import Outcome, run_scenario
from osiris_core.testing.parity_scenario import DRIVERS, Scenario

if TYPE_CHECKING:
    from osiris_core.adapter import ExecutionAdapter


class Stage:
    """
    One for a session of tests, in a folder of its own. What it makes for a scenario it makes once.

    Attributes:
        code: The folder of the user's own modules.
    """

    def __init__(self, folder: Path) -> None:
        self.code = folder / "code"
        self._folder = folder
        self._references: dict[str, Outcome] = {}
        self.code.mkdir(parents=True)
        source = Path(__file__).with_name("parity_drivers.py")
        (self.code / f"{DRIVERS}.py").write_bytes(source.read_bytes())

    def run(self, scenario: Scenario, adapter: ExecutionAdapter, folder: Path) -> Outcome:
        """Run it; everything that is written for the run lies below `folder`, which is there."""
        return run_scenario(scenario, adapter, folder, self._inputs(scenario), self.code)

    def reference(self, scenario: Scenario) -> Outcome:
        """What comes of it on `local`; run when it is first asked for."""
        if scenario.name not in self._references:
            folder = self._folder / "local" / scenario.name
            folder.mkdir(parents=True)
            with AdapterFactory.create("local", code=[str(self.code)]) as adapter:
                self._references[scenario.name] = self.run(scenario, adapter, folder)
        return self._references[scenario.name]

    def _inputs(self, scenario: Scenario) -> Path:
        """Its input files and modules are there on return. The same files for all: a fingerprint covers their times."""
        for name, source in scenario.modules.items():
            if not (path := self.code / f"{name}.py").exists():
                path.write_text(source, encoding="utf-8")
        if scenario.base_dir is not None:
            return scenario.base_dir
        folder = self._folder / "inputs" / scenario.name
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in scenario.files.items():
            if not (path := folder / file).exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        return folder
