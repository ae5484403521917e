"""Generated images whose segments are known, for trying things out without a patient's image.

`heart` is a short-axis MR of a beating heart: a patient (`heart_patient`) whose chest (`heart_chest`) and heart
(`heart_beat`) are painted from simple shapes (`heart_shapes`), as bright as in a sequence (`contrasts`); a cine unless
told otherwise. `late_enhancement` is one after an infarct. `ct` is an abdomen: a patient (`ct_patient`) whose trunk
(`ct_trunk`) and organs (`ct_organs`) are painted from simple shapes (`ct_shapes`).
"""
