"""Code location `stream`: kept light, as every drain run imports it. No pandas, pyarrow or deltalake here."""

import dagster as dg

from movierec_platform.defs.stream.drains import graph_ingest, quality_gate, quarantine
from movierec_platform.defs.stream.resources import StreamResource
from movierec_platform.defs.stream.sensors import clean_queue_sensor, dlq_queue_sensor, raw_queue_sensor

defs = dg.Definitions(
    jobs=[quality_gate, graph_ingest, quarantine],
    sensors=[raw_queue_sensor, clean_queue_sensor, dlq_queue_sensor],
    resources={"stream": StreamResource(home="")},
)
