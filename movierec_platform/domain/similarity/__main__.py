"""`python -m movierec_platform.domain.similarity`: what `neighbours` compiles at first use is compiled and kept.

Takes about 20 seconds, which the first night after an installation would take otherwise.
"""

from typing import get_args

import numpy as np

from movierec_platform.domain.similarity import Method, SimilarityParameters, neighbours

if __name__ == "__main__":
    seen = np.array([1, 2], np.int64)
    for method in get_args(Method):
        neighbours(np.repeat(seen, 2), np.tile(seen, 2), SimilarityParameters(method=method, l1=0.0))
