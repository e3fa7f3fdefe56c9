"""SIGKILL to every process of the platform while clients post: nothing is lost, nothing counts twice, nothing is left.

`load.py` posts and keeps the books, `kills.py` finds and kills, `oracle.py` says what must have come of it; none of
them asks the code under test what is right.
"""
