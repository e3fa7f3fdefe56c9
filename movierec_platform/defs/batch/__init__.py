"""The heavy code location: the MovieLens set, the lake, the similarity and what they put into the graph."""
