"""How long landing may take, in all and in each part: every limit on the way is derived from these.

An event that was received `LANDING_MS` ago has been landed or given up, so that whatever looks for what was lost
(a replay, the mark up to which everything is through) never looks too early. A commit begins no call after
LANDING_S, counted from the arrival of its oldest request; the last call that it began ends CALL_S later.
"""

LANDING_S = 60.0
CALL_S = 25.0
"""One call of S3 or SQS, with all its attempts and the pauses between them."""
ATTEMPTS = 2
PAUSE_S = 1.0
"""Between the two, at most: botocore's standard mode takes a random part of a second."""
CONNECT_S = 2.0
READ_S = (CALL_S - (ATTEMPTS - 1) * PAUSE_S) / ATTEMPTS - CONNECT_S
LONG_POLL_S = 20
"""What a receive may wait for messages: the most that SQS offers. Only its client waits for longer than READ_S."""
SPARE_S = 35.0
"""For a machine that stands still in between, and clocks that are not quite the same."""
LANDING_MS = int((LANDING_S + CALL_S + SPARE_S) * 1000)
