"""Environments and folders that a person may have from other work."""

from pathlib import Path

NOBODY = "http://127.0.0.1:9"
"""Nobody listens there."""
ODD_NAME = """what's "this"? 100%41 #1 &@+;"""
"""Of a folder: each character means something in some syntax that paths are written into."""
KINDS = ("proxy", "proxy_of_deltalake", "profile", "broken_aws_files", "other_endpoints", "other_account", "netrc")


def hostile_environment(kind: str, folder: Path) -> dict[str, str]:
    """The variables of one of the KINDS; files that they name are made in the folder, which is HOME then."""
    if kind == "proxy":
        names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        return {one: NOBODY for name in names for one in (name, name.lower())}
    if kind == "proxy_of_deltalake":
        return {"PROXY_URL": NOBODY, "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true", "AWS_S3_EXPRESS": "true"}
    if kind == "profile":
        return {"AWS_PROFILE": "nosuch", "AWS_DEFAULT_PROFILE": "nosuch", "AWS_MAX_ATTEMPTS": "many"}
    if kind == "other_endpoints":
        return {"AWS_ENDPOINT_URL_S3": NOBODY, "AWS_ENDPOINT_URL_SQS": NOBODY}
    if kind == "other_account":
        return {
            "AWS_REGION": "eu-west-1",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "123456789012",
            "AWS_SECRET_ACCESS_KEY": "of-another-account",
            "AWS_SESSION_TOKEN": "of-another-account",
        }
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "broken_aws_files":
        (folder / ".aws").mkdir(exist_ok=True)
        for name in ("config", "credentials"):
            (folder / ".aws" / name).write_text("[profile x\nregion==\n", encoding="utf-8")
        return {"HOME": str(folder)}
    netrc = folder / ".netrc"
    netrc.write_text("default login somebody password of-another-service\n", encoding="utf-8")
    netrc.chmod(0o600)
    return {"HOME": str(folder), "NETRC": str(netrc)}
