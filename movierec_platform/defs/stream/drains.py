"""The drain jobs: each is one long run over one queue, launched by that queue's sensor."""

import faulthandler
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict

import dagster as dg

from movierec_platform.adapters.log_lines import about, own_log_lines
from movierec_platform.adapters.queues import Message, QueueName
from movierec_platform.adapters.traces import exported_traces
from movierec_platform.defs.stream.resources import StreamResource
from movierec_platform.services.drain import drain
from movierec_platform.services.note import noted_run

STDERR = 2


class SlotConfig(dg.Config):
    """Which of the queue's slots this run drains."""

    slot: int = 0


@dg.op(description="Judges raw events: accepted ones go to the clean queue, refused ones to the dlq queue.")
def pass_gate(context: dg.OpExecutionContext, config: SlotConfig, stream: StreamResource) -> None:
    gate = stream.gate()
    _drain(context, stream, "raw", config.slot, gate.pass_on, gate.ready)


@dg.op(description="Writes accepted events into the graph, one transaction a batch; the graph's one writer.")
def write_graph(context: dg.OpExecutionContext, config: SlotConfig, stream: StreamResource) -> None:
    ingest = stream.graph_ingest()
    _drain(context, stream, "clean", config.slot, ingest.write, ingest.ready)


@dg.op(description="Moves refused events into the quarantine table.")
def hold_rejected(context: dg.OpExecutionContext, config: SlotConfig, stream: StreamResource) -> None:
    held = stream.quarantine()
    _drain(context, stream, "dlq", config.slot, held.hold, held.ready)


@dg.job(executor_def=dg.in_process_executor)
def quality_gate() -> None:
    """Raw queue to clean and dlq queues."""
    pass_gate()


@dg.job(executor_def=dg.in_process_executor)
def graph_ingest() -> None:
    """Clean queue to graph."""
    write_graph()


@dg.job(executor_def=dg.in_process_executor)
def quarantine() -> None:
    """Dlq queue to quarantine table."""
    hold_rejected()


@contextmanager
def killed_after(seconds: float) -> Iterator[None]:
    """This process dies if what is inside takes longer, with the stacks of its threads in the log.

    A run that hangs would keep its lease for ever. Dagster's limit cannot free it: that one goes by the wall clock,
    which may jump, and only asks the process to end.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=STDERR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _drain(
    context: dg.OpExecutionContext,
    stream: StreamResource,
    queue: QueueName,
    slot: int,
    do: Callable[[Sequence[Message]], int],
    ready: Callable[[], None],
) -> None:
    policy = stream.policy(queue)
    longest_s = policy.max_runtime_s + policy.overlap_s + policy.grace_s
    settings = stream.current()
    with (
        own_log_lines(settings),
        about(run_id=context.run_id),
        exported_traces(settings, f"movierec-{context.job_name.replace('_', '-')}"),
        noted_run(settings, queue) as run,
        killed_after(longest_s),
    ):
        work = stream.work(queue, do, ready)
        report = drain(stream.queues().named(queue), work, stream.lease(queue, slot), context.run_id, policy)
        run.ended = report.left_because
    context.log.info("%d events in %d messages; left because: %s", report.events, report.messages, report.left_because)
    context.add_output_metadata(asdict(report))
