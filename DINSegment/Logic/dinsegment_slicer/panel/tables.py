"""Tables of the panel: as wide as it is, however narrow that becomes, and as high as their rows."""

from __future__ import annotations

from typing import Any

import qt


def set_up_table(table: Any) -> None:
    """Makes a table grow with its rows and follow the panel's width; it asks for no width itself.

    Slicer makes what a panel asks for its least width, so that a table that asked for what it now has would only grow.
    """
    table.verticalHeader().setVisible(False)
    # A long name takes two lines in a narrow panel.
    table.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
    table.setHorizontalScrollBarPolicy(qt.Qt.ScrollBarAlwaysOff)
    table.setVerticalScrollBarPolicy(qt.Qt.ScrollBarAlwaysOff)
    # Rows get their heights after the columns got their widths, some of them without a signal: looked at once all have.
    timer = qt.QTimer(table)
    timer.setSingleShot(True)
    timer.setInterval(0)
    timer.timeout.connect(lambda: fit_height(table))
    for header in (table.verticalHeader(), table.horizontalHeader()):
        header.sectionResized.connect(lambda *_sizes: timer.start())
        header.geometriesChanged.connect(timer.start)


def fit_height(table: Any) -> None:
    """Makes a table exactly as high as its rows and heading: the panel scrolls as a whole, and no row is cut."""
    table.resizeRowsToContents()
    header = table.horizontalHeader()
    heading = 0 if header.isHidden() else header.sizeHint.height()
    rows = sum(table.rowHeight(row) for row in range(table.rowCount))
    table.setFixedHeight(heading + rows + 2 * table.frameWidth)


def stretch_column(table: Any, column: int) -> None:
    """Gives one column the width that the others leave."""
    header = table.horizontalHeader()
    header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
    header.setSectionResizeMode(column, qt.QHeaderView.Stretch)
    fit_height(table)


def number_item(text: str) -> qt.QTableWidgetItem:
    """A cell with a number, to the right."""
    item = qt.QTableWidgetItem(text)
    item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
    return item
