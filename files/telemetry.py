"""det reports nothing to anybody, and the packages that it loads must not either.

Some do by default: ONNX Runtime to Microsoft (1.32, on Linux too), OpenVINO's converter to Google
Analytics, W&B its errors to Sentry, MLflow and Ray their usage.  Variables are read when a package
is loaded, so they are set before that; what the user has set stays.
"""

from __future__ import annotations

import os
import sys

OFF = {
    "ORT_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "WANDB_ERROR_REPORTING": "false",
}


def refuse_telemetry() -> None:
    """Tell packages to report nothing, in this process and in those that it starts."""
    for name, value in OFF.items():
        os.environ.setdefault(name, value)


def refuse_package(name: str) -> None:
    """Let importing ``name`` fail, as if it were not installed: a package that only reports, has no
    switch, and is left out by who would use it where it is missing."""
    sys.modules.setdefault(name, None)  # type: ignore[arg-type]
