"""The panel's section with the log: what was done, with what, and what went wrong, to be copied."""

from __future__ import annotations

import logging
from typing import Any

import slicer

LOGGERS = ("dinsegment", "dinsegment_slicer")


class LogSection(logging.Handler):
    """Shows what the packages log; they also log to Slicer's own error log.

    Args:
        ui: The panel's widgets by name.
    """

    def __init__(self, ui: Any) -> None:
        super().__init__(logging.INFO)
        self.ui = ui
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        for name in LOGGERS:
            logger = logging.getLogger(name)
            logger.setLevel(logging.INFO)
            logger.addHandler(self)
        ui.copyLogButton.clicked.connect(self._onCopy)

    def emit(self, record: logging.LogRecord) -> None:
        """Adds what was logged."""
        self.ui.logText.appendPlainText(self.format(record))

    def close(self) -> None:
        """Shows nothing more: the widgets are about to go."""
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(self)
        super().close()

    def _onCopy(self, _checked: bool = False) -> None:
        slicer.app.clipboard().setText(self.ui.logText.plainText)
