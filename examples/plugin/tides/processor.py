"""A postprocessor: the range of a series that a model wrote."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from osiris_core.models.postprocess import BasePostprocessorConfig


class SeriesConfig(BasePostprocessorConfig):
    """Settings of the postprocessor `series`."""

    type: Literal["series"] = Field(default="series", description="Selects this postprocessor.")
    file: str = Field(
        default="outputs/levels.csv", description="The series, relative to the model's folder.", examples=["levels.csv"]
    )
    column: str = Field(default="level", description="The column that is looked at.")

    def get_postprocessor_class(self) -> type[Any]:
        return SeriesPostprocessor


class SeriesPostprocessor:
    """Says how high and how low a series goes."""

    def process(self, model_run: Any, config: SeriesConfig, **_: Any) -> dict[str, Any]:
        """The extremes of the series, and how many values it has."""
        path = Path(model_run.output_dir) / model_run.run_id / config.file
        if not path.is_file():
            return {"success": False, "message": f"the model wrote no {config.file}", "error": f"{path} is not there"}
        with path.open(newline="") as lines:
            values = [float(row[config.column]) for row in csv.DictReader(lines)]
        metrics = {"count": len(values), "lowest": min(values), "highest": max(values)}
        return {"success": True, "message": f"{len(values)} values", "metrics": metrics}
