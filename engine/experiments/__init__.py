"""Looking back at runs: filtered lists, differences of two and of many, and doing one again to prove that it is the same.

`filters` reads expressions, `differences` compares two runs, `paired` measures them row by row, `reproducing` repeats one.
"""
