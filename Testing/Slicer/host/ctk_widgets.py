"""The CTK widgets that a panel uses, drawn from plain Qt widgets: same properties, signals and behaviour."""

from __future__ import annotations

import math

from PySide6.QtCore import Property, QDir, QEvent, QRect, QSignalBlocker, QSize, Qt, Signal
from PySide6.QtWidgets import (
    QAbstractButton,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QHBoxLayout,
    QMessageBox,
    QPushButton,
    QSizePolicy,
    QSlider,
    QStyle,
    QStyleOption,
    QStyleOptionButton,
    QStylePainter,
    QToolButton,
    QWidget,
)


class ctkCollapsibleButton(QAbstractButton):
    """A header with an arrow over contents that it shows or hides; the layout is set on the button itself."""

    contentsCollapsed = Signal(bool)

    def __init__(self, text: str | QWidget | None = None, parent: QWidget | None = None) -> None:
        text, parent = ("", text) if isinstance(text, QWidget) else (text or "", parent)
        super().__init__(parent)
        self._collapsed = False
        self._collapsed_height = 10
        self._hidden_by_itself: set[QWidget] = set()
        self.setText(text)
        self.setCheckable(True)
        self.setChecked(True)
        self.setFocusPolicy(Qt.StrongFocus)
        self.setSizePolicy(QSizePolicy.Preferred, QSizePolicy.Preferred)
        self.setContentsMargins(0, self._header_height(), 0, 0)
        self.toggled.connect(lambda checked: self._set_collapsed(not checked))

    def _header_height(self) -> int:
        option = QStyleOptionButton()
        option.initFrom(self)
        text = self.fontMetrics().size(Qt.TextShowMnemonic, self.text() or "X")
        size = QSize(text.width(), max(text.height(), self.style().pixelMetric(QStyle.PM_IndicatorHeight)))
        return self.style().sizeFromContents(QStyle.CT_PushButton, option, size, self).height()

    def _set_collapsed(self, collapsed: bool) -> None:
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        self.setChecked(not collapsed)
        if collapsed:
            # What was hidden before stays hidden when the contents come back.
            self._hidden_by_itself = {child for child in self._contents() if not child.isHidden()}
            for child in self._hidden_by_itself:
                child.hide()
        else:
            for child in self._hidden_by_itself:
                child.show()
            self._hidden_by_itself = set()
        self.setMaximumHeight(self._header_height() + self._collapsed_height if collapsed else 16777215)
        self.updateGeometry()
        self.update()
        self.contentsCollapsed.emit(collapsed)

    def _contents(self) -> list[QWidget]:
        return [child for child in self.children() if isinstance(child, QWidget) and not child.isWindow()]

    def childEvent(self, event) -> None:
        # What is added while it is collapsed, as the contents of a form are, is hidden until it is opened.
        if event.type() == QEvent.ChildPolished and self._collapsed and isinstance(event.child(), QWidget):
            child = event.child()
            if not child.isHidden() and not child.isWindow():
                self._hidden_by_itself.add(child)
                child.hide()
        super().childEvent(event)

    def minimumSizeHint(self) -> QSize:
        contents = self.layout().totalMinimumSize() if self.layout() and not self._collapsed else QSize()
        hint = self.fontMetrics().size(Qt.TextShowMnemonic, self.text()) + QSize(30, 0)
        extra = self._collapsed_height if self._collapsed else 0
        return QSize(hint.width(), self._header_height() + extra).expandedTo(contents)

    def sizeHint(self) -> QSize:
        contents = self.layout().totalSizeHint() if self.layout() and not self._collapsed else QSize()
        return self.minimumSizeHint().expandedTo(contents)

    def hitButton(self, position) -> bool:
        return QRect(0, 0, self.width(), self._header_height()).contains(position)

    def event(self, event) -> bool:
        if event.type() in (QEvent.FontChange, QEvent.StyleChange):
            self.setContentsMargins(0, self._header_height(), 0, 0)
        return super().event(event)

    def paintEvent(self, event) -> None:
        painter = QStylePainter(self)
        header = QRect(0, 0, self.width(), self._header_height())
        option = QStyleOptionButton()
        option.initFrom(self)
        option.rect = header
        option.state |= QStyle.State_Sunken if self.isDown() else QStyle.State_Raised
        painter.drawControl(QStyle.CE_PushButtonBevel, option)
        arrow = QStyleOption()
        arrow.initFrom(self)
        side = self.style().pixelMetric(QStyle.PM_IndicatorHeight, None, self)
        arrow.rect = QRect(6, (header.height() - side) // 2, side, side)
        direction = QStyle.PE_IndicatorArrowRight if self._collapsed else QStyle.PE_IndicatorArrowDown
        painter.drawPrimitive(direction, arrow)
        text = header.adjusted(side + 12, 0, -6, 0)
        flags = Qt.AlignLeft | Qt.AlignVCenter | Qt.TextShowMnemonic
        self.style().drawItemText(
            painter, text, flags, self.palette(), self.isEnabled(), self.text(), self.foreground()
        )

    def foreground(self):
        return self.palette().ColorRole.ButtonText

    def _collapsed_value(self) -> bool:
        return self._collapsed

    def _collapsed_height_value(self) -> int:
        return self._collapsed_height

    def _set_collapsed_height(self, height: int) -> None:
        self._collapsed_height = height

    collapsed = Property(bool, _collapsed_value, _set_collapsed)
    collapsedHeight = Property(int, _collapsed_height_value, _set_collapsed_height)


class ctkSliderWidget(QWidget):
    """A slider beside a spin box for one number."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    decimalsChanged = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._tracking = True
        self._value_before = 0.0
        self._slider = QSlider(Qt.Horizontal, self)
        self._spin_box = QDoubleSpinBox(self)
        self._spin_box.setRange(0, 99)
        self._spin_box.setDecimals(2)
        self._spin_box.setKeyboardTracking(False)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider)
        layout.addWidget(self._spin_box)
        self.setFocusProxy(self._spin_box)
        self._update_slider()
        self._slider.valueChanged.connect(self._slider_moved)
        self._slider.sliderPressed.connect(self._pressed)
        self._slider.sliderReleased.connect(self._released)
        self._spin_box.valueChanged.connect(self._spin_box_changed)

    def _update_slider(self) -> None:
        with QSignalBlocker(self._slider):
            step = self._spin_box.singleStep()
            steps = round((self._spin_box.maximum() - self._spin_box.minimum()) / step)
            self._slider.setRange(0, max(0, steps))
            self._slider.setValue(round((self._spin_box.value() - self._spin_box.minimum()) / step))

    def _slider_moved(self, step: int) -> None:
        self._spin_box.setValue(self._spin_box.minimum() + step * self._spin_box.singleStep())

    def _pressed(self) -> None:
        self._value_before = self._spin_box.value()

    def _released(self) -> None:
        if not self._tracking and self._spin_box.value() != self._value_before:
            self.valueChanged.emit(self._spin_box.value())

    def _spin_box_changed(self, value: float) -> None:
        self._update_slider()
        self.valueIsChanging.emit(value)
        if self._tracking or not self._slider.isSliderDown():
            self.valueChanged.emit(value)

    def _value(self) -> float:
        return self._spin_box.value()

    def setValue(self, value: float) -> None:
        self._spin_box.setValue(value)

    def reset(self) -> None:
        self._spin_box.setValue(min(max(0.0, self._spin_box.minimum()), self._spin_box.maximum()))

    def _minimum(self) -> float:
        return self._spin_box.minimum()

    def _set_minimum(self, value: float) -> None:
        self._spin_box.setMinimum(max(value, -1e300) if math.isinf(value) else value)
        self._update_slider()

    def _maximum(self) -> float:
        return self._spin_box.maximum()

    def _set_maximum(self, value: float) -> None:
        self._spin_box.setMaximum(min(value, 1e300) if math.isinf(value) else value)
        self._update_slider()

    def _single_step(self) -> float:
        return self._spin_box.singleStep()

    def _set_single_step(self, value: float) -> None:
        self._spin_box.setSingleStep(value)
        self._update_slider()

    def _decimals(self) -> int:
        return self._spin_box.decimals()

    def setDecimals(self, decimals: int) -> None:
        self._spin_box.setDecimals(decimals)
        self.decimalsChanged.emit(decimals)

    def _page_step(self) -> float:
        return self._slider.pageStep() * self._spin_box.singleStep()

    def _set_page_step(self, value: float) -> None:
        self._slider.setPageStep(max(1, round(value / self._spin_box.singleStep())))

    def _suffix(self) -> str:
        return self._spin_box.suffix()

    def _set_suffix(self, text: str) -> None:
        self._spin_box.setSuffix(text)

    def _prefix(self) -> str:
        return self._spin_box.prefix()

    def _set_prefix(self, text: str) -> None:
        self._spin_box.setPrefix(text)

    def _is_tracking(self) -> bool:
        return self._tracking

    def _set_tracking(self, tracking: bool) -> None:
        self._tracking = tracking

    def _is_spin_box_visible(self) -> bool:
        return not self._spin_box.isHidden()

    def setSpinBoxVisible(self, visible: bool) -> None:
        self._spin_box.setVisible(visible)

    value = Property(float, _value, setValue)
    minimum = Property(float, _minimum, _set_minimum)
    maximum = Property(float, _maximum, _set_maximum)
    singleStep = Property(float, _single_step, _set_single_step)
    pageStep = Property(float, _page_step, _set_page_step)
    decimals = Property(int, _decimals, setDecimals)
    suffix = Property(str, _suffix, _set_suffix)
    prefix = Property(str, _prefix, _set_prefix)
    tracking = Property(bool, _is_tracking, _set_tracking)
    spinBoxVisible = Property(bool, _is_spin_box_visible, setSpinBoxVisible)


class ctkDirectoryButton(QWidget):
    """A button that shows a folder and lets the user choose another."""

    directoryChanged = Signal(str)
    directorySelected = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._directory = ""
        self._caption = ""
        self._button = QPushButton(self)
        self._button.clicked.connect(self.browse)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._button)

    def browse(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, self._caption, self._directory)
        if chosen:
            self._set_directory(chosen)
            self.directorySelected.emit(chosen)

    def _directory_value(self) -> str:
        return self._directory

    def _set_directory(self, path: str) -> None:
        if path != self._directory:
            self._directory = path
            self._button.setText(path)
            self.directoryChanged.emit(path)

    def _caption_value(self) -> str:
        return self._caption

    def _set_caption(self, text: str) -> None:
        self._caption = text

    directory = Property(str, _directory_value, _set_directory)
    caption = Property(str, _caption_value, _set_caption)


class ctkPathLineEdit(QWidget):
    """An editable path with a button that opens a file dialog."""

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._label = ""
        self._setting_key = ""
        self._name_filters: list[str] = []
        self._filter_value = (QDir.AllEntries | QDir.NoDotAndDotDot | QDir.Readable).value
        self._combo_box = QComboBox(self)
        self._combo_box.setEditable(True)
        self._combo_box.setSizePolicy(QSizePolicy.Expanding, QSizePolicy.Fixed)
        self._combo_box.editTextChanged.connect(self.currentPathChanged)
        self._browse_button = QToolButton(self)
        self._browse_button.setText("...")
        self._browse_button.clicked.connect(self.browse)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo_box)
        layout.addWidget(self._browse_button)

    def browse(self) -> None:
        if self._filter_value & QDir.Dirs.value and not self._filter_value & QDir.Files.value:
            chosen = QFileDialog.getExistingDirectory(self, self._label, self._path())
        else:
            chosen = self._browse_file()
        if chosen:
            self.setCurrentPath(chosen)

    def _browse_file(self) -> str:
        chosen, _ = QFileDialog.getOpenFileName(self, self._label, self._path(), ";;".join(self._name_filters))
        return chosen

    def _path(self) -> str:
        return self._combo_box.currentText()

    def setCurrentPath(self, path: str) -> None:
        self._combo_box.setEditText(path)

    def addCurrentPathToHistory(self) -> None:
        if self._combo_box.findText(self._path()) < 0:
            self._combo_box.addItem(self._path())

    def _label_value(self) -> str:
        return self._label

    def _set_label(self, text: str) -> None:
        self._label = text

    def _setting_key_value(self) -> str:
        return self._setting_key

    def _set_setting_key(self, key: str) -> None:
        self._setting_key = key

    def _filters(self) -> list[str]:
        return self._name_filters

    def _set_filters(self, filters: list[str]) -> None:
        self._name_filters = list(filters)

    def _filters_value(self) -> int:
        return self._filter_value

    def _set_filters_value(self, value: int) -> None:
        self._filter_value = value

    filters = Property(int, _filters_value, _set_filters_value)
    currentPath = Property(str, _path, setCurrentPath)
    label = Property(str, _label_value, _set_label)
    settingKey = Property(str, _setting_key_value, _set_setting_key)
    nameFilters = Property("QStringList", _filters, _set_filters)


class ctkCheckBox(QCheckBox):
    """A check box that may show icons for its states."""


class ctkCheckablePushButton(QPushButton):
    """A push button with a check box at its left."""

    checkBoxToggled = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controls_button = True
        self._controls_toggle = False
        self._check_box = QCheckBox(self)
        self._check_box.move(6, 4)
        self._check_box.toggled.connect(self._check_box_toggled)

    def _check_box_toggled(self, checked: bool) -> None:
        if self._controls_toggle:
            self.setCheckable(checked)
            self.setChecked(checked)
        self.checkBoxToggled.emit(checked)

    def _controls_button_value(self) -> bool:
        return self._controls_button

    def _set_controls_button(self, controls: bool) -> None:
        self._controls_button = controls

    def _controls_toggle_value(self) -> bool:
        return self._controls_toggle

    def _set_controls_toggle(self, controls: bool) -> None:
        self._controls_toggle = controls

    checkBoxControlsButton = Property(bool, _controls_button_value, _set_controls_button)
    checkBoxControlsButtonToggleState = Property(bool, _controls_toggle_value, _set_controls_toggle)


class ctkMessageBox(QMessageBox):
    """A message box that may be told not to show again."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._settings_key = ""

    def _settings_key_value(self) -> str:
        return self._settings_key

    def _set_settings_key(self, key: str) -> None:
        self._settings_key = key

    dontShowAgainSettingsKey = Property(str, _settings_key_value, _set_settings_key)


class ctkComboBox(QComboBox):
    """A combo box with a text for when nothing is chosen."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)

    def _default_text(self) -> str:
        return self.placeholderText()

    def _set_default_text(self, text: str) -> None:
        self.setPlaceholderText(text)

    defaultText = Property(str, _default_text, _set_default_text)


WIDGETS = (
    ctkCheckBox,
    ctkCheckablePushButton,
    ctkCollapsibleButton,
    ctkComboBox,
    ctkDirectoryButton,
    ctkMessageBox,
    ctkPathLineEdit,
    ctkSliderWidget,
)
