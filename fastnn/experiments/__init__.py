"""The experiments of the source documents, each run by one call or by ``fastnn experiment NAME``.

An experiment is a module with ``run(quick, data)``, which measures and compares with the sources'
figures, and ``draw(outcome)``, which makes the picture. `registry` lists them, `runner` runs one
and writes its files, `outcome` has the records they hand back.
"""
