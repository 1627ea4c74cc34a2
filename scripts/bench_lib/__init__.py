"""The benchmark: what the gateway costs, as ratios to a bare `mitmdump` in the same run.

Law: every answer is checked, and one wrong answer ends the run; a number made of errors is no number.
Law: ratios are medians of per-round ratios; absolute numbers depend on the machine and are only shown.
"""
