"""Which movies go together: weighted edges between movies, learned from who has seen what.

`neighbours` learns them by one of three methods:

* `cosine`: item-based neighbourhoods, Deshpande and Karypis, "Item-Based Top-N Recommendation Algorithms" (ACM TOIS
  22(1), 2004), section 4, with an additive shrinkage of the denominator against pairs that few users support.
* `slim`: Ning and Karypis, "SLIM: Sparse Linear Methods for Top-N Recommender Systems" (ICDM 2011), with the feature
  selection of their section IV.C: a movie may lean only on those that are nearest to it by cosine.
* `rp3beta`: Paudel, Christoffel, Newell and Bernstein, "Updatable, Accurate, Diverse, and Scalable Recommendations for
  Interactive Applications" (ACM TiiS 7(1), 2017), sections 3 and 4.

All rest on counts of users who saw two movies both (`cooccurrence`), which are never held all at once.
"""

from movierec_platform.domain.similarity.edges import Edges
from movierec_platform.domain.similarity.engine import neighbours
from movierec_platform.domain.similarity.parameters import Method, SimilarityParameters

__all__ = ["Edges", "Method", "SimilarityParameters", "neighbours"]
