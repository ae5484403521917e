"""What Slicer loads: the module's description, its sample data and its self test. The work is done in `Logic`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule

HERE = Path(__file__).resolve().parent
PACKAGES = ("dinsegment", "dinsegment_slicer")

if str(HERE / "Logic") not in sys.path:
    sys.path.insert(0, str(HERE / "Logic"))

from dinsegment_slicer import self_test  # noqa: E402
from dinsegment_slicer.logic import DINSegmentLogic  # noqa: E402, F401 for scripts, which look for a module's logic here
from dinsegment_slicer.panel import widget  # noqa: E402


class DINSegment(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "DINSegment"
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = ["Segmentations", "Sequences", "Terminologies", "Volumes"]
        parent.contributors = ["DINSegment developers"]
        parent.helpText = _(
            "<p>Segments the heart in short-axis cine MR, infarcts in late enhancement MR, and eight organs in "
            "abdominal CT, with the Dual Interaction Network, which looks at the image and at its fuzzy-enhanced "
            "version at once, shows both side by side, and measures volumes and, of the heart, ejection fraction, "
            "myocardial mass and infarct size.</p>"
            "<p><b>This is a research tool, not a medical device: do not use it for diagnosis or treatment.</b></p>"
            "<p>How to use it, and how well it works, stands on its website: click on DINSegment in the Extensions "
            "Manager.</p>"
        )
        parent.acknowledgementText = _(
            "<p>If you publish results of it, please cite:</p><ul>"
            "<li>the network: J. Noh, W. Jeon, J. Park, <i>Dual Interaction Network with Cross-Image Attention for "
            "Medical Image Segmentation</i>, Pattern Recognition Letters, 2025, doi 10.1016/j.patrec.2025.08.018;</li>"
            "<li>the enhancement: V. Patrascu, <i>Color image enhancement using the lrgb coordinates in the context of "
            "support fuzzification</i>, arXiv 1502.04499;</li>"
            "<li>the training images of the heart: O. Bernard et al., <i>Deep Learning Techniques for Automatic MRI "
            "Cardiac Multi-structures Segmentation and Diagnosis: Is the Problem Solved?</i>, IEEE Transactions on "
            "Medical Imaging 37(11), 2018, doi 10.1109/TMI.2018.2837502;</li>"
            "<li>those of infarcts: A. Lalande et al., <i>Emidec: A Database Usable for the Automatic Evaluation of "
            "Myocardial Infarction from Delayed-Enhancement Cardiac MRI</i>, Data 5(4):89, 2020, doi "
            "10.3390/data5040089;</li>"
            "<li>the training images of the abdomen: B. Landman et al., <i>MICCAI Multi-Atlas Labeling Beyond the "
            "Cranial Vault: Workshop and Challenge</i>, 2015.</li></ul>"
            "<p>The licence of the weights is that of the images: CC BY-NC-SA 4.0 for the heart and infarcts; those of "
            "the abdomen are for research. The section Model has the details.</p>"
        )
        register_dicom_plugin()
        # Only then there are the logics of other modules.
        slicer.app.connect("startupCompleted()", load_terminology)
        slicer.app.connect("startupCompleted()", register_sample_data)
        slicer.app.connect("startupCompleted()", register_editor_effect)


class DINSegmentWidget(widget.DINSegmentWidget):
    """The panel. Slicer looks for it here, by its name."""

    def onReload(self) -> None:
        """Reloads the packages, too: Slicer runs only this file again, which then imports them anew."""
        for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
            del sys.modules[name]
        super().onReload()


def register_dicom_plugin() -> None:
    """Lets the DICOM module load cine stacks. It looks at the plugins, and what tags they need, when all are there."""
    try:
        import DICOMLib  # noqa: F401 what the plugin is made of
    except ImportError:
        return  # An application without DICOM.
    from dinsegment_slicer.dicom import import_plugin

    if not hasattr(slicer.modules, "dicomPlugins"):  # The DICOM module may come later.
        slicer.modules.dicomPlugins = {}
    slicer.modules.dicomPlugins[import_plugin.NAME] = import_plugin.DINSegmentDICOMPluginClass


def load_terminology() -> None:
    """Makes the segments' codes known, so that the user can choose them and Slicer finds their colours."""
    path = HERE / "Resources" / "Terminologies" / "DINSegment.term.json"
    if not slicer.modules.terminologies.logic().LoadTerminologyFromFile(str(path)):
        logging.error("The terminology '%s' could not be loaded: install DINSegment again.", path)


def load_sample(source: Any) -> list[slicer.vtkMRMLNode]:
    """Generates the sample that was clicked on in Sample Data, adds and shows it; a list, as Slicer's own."""
    from dinsegment.errors import Cancelled, DINSegmentError
    from dinsegment_slicer.scene.sample_data import phantoms
    from dinsegment_slicer.scene.sample_progress import load_phantom

    try:
        return [load_phantom(next(phantom for phantom in phantoms() if phantom.sample == source.sampleName))]
    except Cancelled:
        return []
    except DINSegmentError as error:
        slicer.util.errorDisplay(str(error), windowTitle=_("DINSegment"))
        return []


# CTLiver is Slicer's own sample: liver_100 of the Medical Segmentation Decathlon, CC BY-SA 4.0.
CT_LIVER_SHA256 = "e16eae0ae6fefa858c5c11e58f0f1bb81834d81b7102e021571056324ef6f37e"
CT_LIVER = {
    "sampleName": "Abdominal CT",
    "nodeNames": "CTLiver",
    "fileNames": "CTLiver.nrrd",
    "uris": f"https://github.com/Slicer/SlicerTestingData/releases/download/SHA256/{CT_LIVER_SHA256}",
    "checksums": f"SHA256:{CT_LIVER_SHA256}",
}


def samples() -> list[dict[str, Any]]:
    """The samples as registerCustomSampleDataSource takes them; the thumbnail is named after the node."""
    from dinsegment_slicer.scene.sample_data import phantoms

    # Slicer wants an address and a file also of what is made on the spot.
    generated = [
        {
            "sampleName": phantom.sample,
            "nodeNames": phantom.name,
            "fileNames": f"{phantom.name}.nrrd",
            "uris": f"phantom:{phantom.name}",
            "customDownloader": load_sample,
        }
        for phantom in phantoms()
    ]
    return [*generated, CT_LIVER]


def register_sample_data() -> None:
    """Shows the samples in the module Sample Data, in a category of their own."""
    from SampleData import SampleDataLogic

    for sample in samples():
        thumbnail = HERE / "Resources" / "Icons" / f"{sample['nodeNames']}.png"
        SampleDataLogic.registerCustomSampleDataSource(
            category="DINSegment", thumbnailFileName=str(thumbnail), **sample
        )


def register_editor_effect() -> None:
    """Gives the Segment Editor the effect DIN."""
    try:
        import qSlicerSegmentationsEditorEffectsPythonQt as effects
    except ImportError:
        return  # An application without the Segment Editor.
    effect = effects.qSlicerSegmentEditorScriptedEffect(None)
    effect.setPythonSource((HERE / "DINSegmentEditorEffect" / "SegmentEditorEffect.py").as_posix())
    effect.self().register()


class DINSegmentTest(self_test.SelfTest):
    """Segments, exports, saves and loads for real, through the panel. Slicer looks for it here, by its name."""
