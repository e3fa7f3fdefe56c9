"""The Dagster code locations that `latency` compares: `ours`, and `stock` as its documentation leads one to write it.

Both read a raw queue and fill a clean queue, whose addresses come from the environment.
"""

from dataclasses import asdict
from typing import Any, Literal

import dagster as dg
from pydantic import BaseModel, Field

from movierec_platform.adapters.queues import Message, Queues
from movierec_platform.config import load_settings
from movierec_platform.defs.stream.drains import quality_gate
from movierec_platform.defs.stream.resources import StreamResource
from movierec_platform.defs.stream.sensors import raw_queue_sensor

BATCH_MESSAGES = 500

ours = dg.Definitions(jobs=[quality_gate], sensors=[raw_queue_sensor], resources={"stream": StreamResource(home="")})
"""The platform's own sensor and job; the sensor of the clean queue is left out, as the benchmark reads that queue."""


class StockEvent(BaseModel):
    """The plainest model of an event."""

    event_id: str
    event_type: Literal["rating", "view", "retract"] = "rating"
    user_id: int = Field(gt=0)
    movie_id: int = Field(gt=0)
    rating: float | None = Field(None, ge=0.5, le=5.0)
    timestamp: int


class BatchConfig(dg.Config):
    """The messages of one micro-batch."""

    messages: list[dict[str, Any]]


@dg.op
def judge_batch(config: BatchConfig) -> None:
    """Every event of the batch is judged and in the clean queue."""
    queues = Queues.open(load_settings())
    messages = [Message(**message) for message in config.messages]
    queues.clean.send([StockEvent.model_validate_json(message.body).model_dump_json() for message in messages])
    queues.raw.delete(messages)


@dg.job
def micro_batch() -> None:
    """One run a micro-batch, with the default executor."""
    judge_batch()


def micro_batch_sensor(minimum_interval_s: int | None) -> dg.SensorDefinition:
    """The sensor that launches a run for all the messages that wait; None is Dagster's default interval."""

    @dg.sensor(
        job=micro_batch, default_status=dg.DefaultSensorStatus.RUNNING, minimum_interval_seconds=minimum_interval_s
    )
    def sensor() -> dg.RunRequest | dg.SkipReason:
        raw = Queues.open(load_settings()).raw
        messages: list[Message] = []
        while len(messages) < BATCH_MESSAGES and (received := raw.receive()):
            messages += received
        if not messages:
            return dg.SkipReason("no messages wait")
        return dg.RunRequest(run_config={"ops": {"judge_batch": {"config": {"messages": list(map(asdict, messages))}}}})

    return sensor


stock = dg.Definitions(jobs=[micro_batch], sensors=[micro_batch_sensor(None)])
eager = dg.Definitions(jobs=[micro_batch], sensors=[micro_batch_sensor(1)])
