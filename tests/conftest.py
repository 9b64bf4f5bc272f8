"""Settings of all tests, made before any framework is imported.

`make test` runs a worker on each core: a second thread in every worker would only wait for the others, at many times
the cost. No test may reach a network.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GENIE_CACHE", os.devnull)  # nothing is kept in the user's folder
