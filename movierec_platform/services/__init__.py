"""Use cases, one verb each: gather through adapters, decide in the domain, act."""
