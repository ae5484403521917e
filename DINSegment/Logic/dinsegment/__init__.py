"""Heart MR and abdominal CT segmentation with the Dual Interaction Network (DIN).

A research tool, not a medical device.
"""

__version__ = "0.1.0"
