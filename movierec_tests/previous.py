"""What the release before migrations left behind, written out in its formats: nothing here calls the code of today.

Its state database, its messages and raw objects, its stack.env.
"""

import gzip

import sqlalchemy as sa

RECEIVED_AT_MS = 1_772_323_201_000
RAW_KEY = "raw/date=2026-03-01/hour=00/1772323201000-0123456789abcdef0123456789abcdef.ndjson.gz"

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


def message(number: int, user_id: int, movie_id: int) -> str:
    """What the API, and the gate after it, sent of one rating, on line `number` of its raw object."""
    return (
        f'{{"v":1,"raw_key":"{RAW_KEY}","received_at_ms":{RECEIVED_AT_MS},"lines":[{number}],'
        f'"events":[{event(number, user_id, movie_id)}]}}'
    )


def event(number: int, user_id: int, movie_id: int) -> str:
    return (
        f'{{"event_id":"old-{number}","event_type":"rating","user_id":{user_id},"movie_id":{movie_id},"rating":4.0,'
        f'"timestamp":{RECEIVED_AT_MS}}}'
    )


def rejection(number: int) -> str:
    """What the gate sent of an event that it refused."""
    return (
        f'{{"v":1,"raw_key":"{RAW_KEY}","received_at_ms":{RECEIVED_AT_MS},"reason_code":"wrong_type","rejected":'
        f'[{{"line":{number},"field":"user_id","detail":"why","body":"{{}}"}}]}}'
    )


def raw_object(events: list[str]) -> bytes:
    """What the API landed at RAW_KEY."""
    lines = [f'{{"received_at_ms":{RECEIVED_AT_MS},"source":"api","event":{one}}}\n' for one in events]
    return gzip.compress("".join(lines).encode())


STACK_ENV = """\
MOVIEREC_API_URL='http://127.0.0.1:5000'
MOVIEREC_METRICS_URL='http://127.0.0.1:8000/metrics'
DAGSTER_URL='http://127.0.0.1:3000'
NEO4J_URI='bolt://127.0.0.1:7687'
NEO4J_USER='root'
NEO4J_PASSWORD='opens-nothing'
NEO4J_DATABASE='movierec'
AWS_ENDPOINT_URL='http://127.0.0.1:4566'
AWS_REGION='us-east-1'
MOVIEREC_BUCKET='movierec'
MOVIEREC_RAW_QUEUE_URL='http://127.0.0.1:4566/000000000000/movierec-raw'
MOVIEREC_CLEAN_QUEUE_URL='http://127.0.0.1:4566/000000000000/movierec-clean'
MOVIEREC_DLQ_URL='http://127.0.0.1:4566/000000000000/movierec-dlq'
MOVIEREC_STATE_URL='sqlite:////home/me/.movierec/state.db'
MOVIEREC_HOME='/home/me/.movierec'
DAGSTER_HOME='/home/me/.movierec/dagster'
MOVIEREC_GRAPH_HTTP_URL='http://127.0.0.1:2480'
AWS_DEFAULT_REGION='us-east-1'
AWS_ACCESS_KEY_ID='movierec'
AWS_SECRET_ACCESS_KEY='opens-nothing'
MOVIEREC_OF_SOME_OTHER_RELEASE='1'
"""
