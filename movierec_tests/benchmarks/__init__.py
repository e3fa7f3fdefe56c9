"""Measurements of the platform; never part of the test run. Each prints tables and, as its last line, JSON.

`python -m movierec_tests.benchmarks.NAME`, both sides in one run where there are two:

- `latency`: raw to clean queue, our lingering drain beside stock Dagster with a run per micro-batch.
- `sustained`: the whole stack at a fixed rate, POST to visible in the graph; `--find-limit` steps the rate up.
- `graph_load`: a whole graph made by a rebuild, beside the UNWIND MERGE loader.
- `gate`, `ingest`, `graph_ingest`: events per second and per CPU second beside the plain way to do the same.
- `fold`: ratings and events into interactions beside DuckDB by SQL, from Parquet to Parquet.

Processor time is what to compare on a machine that does other things too; the load average is printed with the result.
"""
