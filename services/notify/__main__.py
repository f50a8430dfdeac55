"""``python -m services.notify``: tells people of alerts until a named person confirms."""

from __future__ import annotations

import logging
import os
import socket
import sys
from typing import Final

import structlog
import uvloop
from pydantic import ValidationError

from services.notify.run import run
from services.notify.settings import Settings
from streams.operations import PortTaken, configure_logging
from streams.rule_errors import RuleError

UNEXPECTED: Final = 70
"""EX_SOFTWARE: a part ended that must not; whoever supervises the process starts it again."""


def main() -> int:
    """Read the settings and run until told to stop; the exit code."""
    try:
        settings = Settings()
    except ValidationError as error:
        configure_logging("notify")
        wrong = [".".join(map(str, fault["loc"])) or fault["msg"] for fault in error.errors(include_input=False)]
        structlog.get_logger().error("settings refused", fields=wrong)
        return 2
    configure_logging("notify", settings.log_level)
    # It logs the address of each request, and the path of a webhook is often a secret.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        uvloop.run(run(settings, instance=f"{socket.gethostname()}-{os.getpid()}"))
    except (PortTaken, RuleError) as error:
        structlog.get_logger().error("cannot start", reason=str(error))
        return 1
    except Exception as error:  # noqa: BLE001 -- the process' outermost loop
        # Only its kind: a database's message quotes rows, and rows hold patients' telemetry.
        structlog.get_logger().critical("notify ended", error=type(error).__name__)
        return UNEXPECTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
