"""What the release before migrations left behind, built here in its formats: its state database."""

import sqlalchemy as sa

FIRST_TABLES = """
CREATE TABLE counters (name VARCHAR NOT NULL, labels VARCHAR NOT NULL, value FLOAT NOT NULL, PRIMARY KEY (name,
labels));
CREATE TABLE marks (name VARCHAR NOT NULL, value BIGINT NOT NULL, PRIMARY KEY (name));
CREATE TABLE quarantine (id VARCHAR NOT NULL, reason_code VARCHAR NOT NULL, field VARCHAR, detail VARCHAR NOT NULL,
body TEXT NOT NULL, raw_key VARCHAR, line INTEGER, received_at_ms BIGINT, quarantined_at_ms BIGINT NOT NULL, PRIMARY
KEY (id));
CREATE INDEX ix_quarantine_reason_code ON quarantine (reason_code);
CREATE INDEX ix_quarantine_received_at_ms ON quarantine (received_at_ms);
"""
"""Of the first state databases: a refused event had no standing, and there were no keys."""

LATER_TABLES = """
CREATE TABLE tallied (stage VARCHAR NOT NULL, raw_key VARCHAR NOT NULL, line INTEGER NOT NULL, received_at_ms BIGINT
NOT NULL, PRIMARY KEY (stage, raw_key, line));
CREATE INDEX ix_tallied_received_at_ms ON tallied (received_at_ms);
CREATE TABLE quarantine_acts (number INTEGER NOT NULL, row_id VARCHAR NOT NULL, act VARCHAR NOT NULL, at_ms BIGINT NOT
NULL, actor VARCHAR NOT NULL, attempt INTEGER NOT NULL, reason_code VARCHAR NOT NULL, detail VARCHAR, body TEXT,
raw_key VARCHAR, line INTEGER, PRIMARY KEY (number));
CREATE INDEX ix_quarantine_acts_row_id ON quarantine_acts (row_id);
CREATE INDEX ix_quarantine_acts_landed ON quarantine_acts (raw_key, line);
CREATE TABLE quarantine_standing (id VARCHAR NOT NULL, status VARCHAR NOT NULL, reason_code VARCHAR NOT NULL, field
VARCHAR, detail VARCHAR NOT NULL, body TEXT, user_id BIGINT, received_at_ms BIGINT, quarantined_at_ms BIGINT NOT NULL,
attempts INTEGER NOT NULL, redrive_key VARCHAR, redrive_line INTEGER, redrive_at_ms BIGINT, PRIMARY KEY (id));
CREATE INDEX ix_quarantine_standing_status_id ON quarantine_standing (status, id);
CREATE INDEX ix_quarantine_standing_latest ON quarantine_standing (quarantined_at_ms, id);
CREATE INDEX ix_quarantine_standing_redrive ON quarantine_standing (redrive_key, status);
CREATE INDEX ix_quarantine_standing_user_id ON quarantine_standing (user_id);
CREATE INDEX ix_quarantine_standing_status_reason ON quarantine_standing (status, reason_code);
CREATE TABLE api_keys (id VARCHAR NOT NULL, name VARCHAR NOT NULL, scopes VARCHAR NOT NULL, salt BLOB NOT NULL, hash
BLOB NOT NULL, created_at_ms BIGINT NOT NULL, expires_at_ms BIGINT, revoked_at_ms BIGINT, last_used_on VARCHAR,
PRIMARY KEY (id));
"""


def statements(tables: str, dialect: str) -> list[str]:
    """The statements that made them, on this kind of database."""
    if dialect == "postgresql":
        tables = tables.replace("BLOB", "BYTEA").replace("number INTEGER", "number SERIAL")
    return [one for one in tables.replace("\n", " ").split(";") if one.strip()]


def make(engine: sa.Engine, tables: str) -> None:
    """The database has these tables."""
    with engine.begin() as connection:
        for statement in statements(tables, engine.dialect.name):
            connection.exec_driver_sql(statement)
