"""One thread, as in every job: small tensors gain nothing from more, and busy machines lose much."""

import os

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"
