"""Settings of the overlay, read once from the environment."""

from __future__ import annotations

import os

# Seconds during which the name of a deleted queue can't be used again (AWS: 60).
SQS_DELETED_QUEUE_SECONDS = float(os.environ.get("SANDBOX_SQS_DELETED_QUEUE_SECONDS", "60"))
# History events after which a Standard execution fails (AWS: 25,000).
EXECUTION_HISTORY_LIMIT = int(os.environ.get("SANDBOX_EXECUTION_HISTORY_LIMIT", "25000"))
# First pause before a failed Kinesis batch is tried again; doubles up to ten times this.
KINESIS_RETRY_SECONDS = float(os.environ.get("SANDBOX_KINESIS_RETRY_SECONDS", "0.2"))
# Interval at which streams are looked at for new records (AWS: one read per second and shard).
KINESIS_POLL_SECONDS = float(os.environ.get("SANDBOX_KINESIS_POLL_SECONDS", "0.1"))
# Certificates that functions trust, none if not set.
CA_BUNDLE = os.environ.get("SSL_CERT_FILE")
