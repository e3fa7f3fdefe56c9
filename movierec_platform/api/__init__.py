"""The HTTP API: `create_app` in app.py, one blueprint a resource, every error as problem+json from errors.py."""
