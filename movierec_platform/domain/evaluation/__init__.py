"""How good recommendations are, measured offline: split what was seen, recommend, compare with what was seen later.

`protocol` says how, `splits` cuts, `lists` recommends to many users at once, `metrics` judges the lists, `intervals`
says how sure that is, `results` holds it all. Pure; `services.evaluate` puts them together.
"""
