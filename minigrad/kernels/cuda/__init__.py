"""Floor 2: the CUDA backend, a sibling of ``cpu``. Importing it asks for no GPU and no CUDA package.

``backend.py`` is what the operations see; ``driver.py`` is a GPU, ``testing/simt`` an emulated one.
"""
