"""Generated images whose segments are known, for trying things out without a patient's image.

`heart` is a short-axis cine MR of a beating heart. `ct` is an abdomen: a patient (`ct_patient`) whose trunk
(`ct_trunk`) and organs (`ct_organs`) are painted from simple shapes (`ct_shapes`).
"""
