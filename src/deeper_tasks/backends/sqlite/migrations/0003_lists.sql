-- States: 1 scheduled, 2 blocked, 3 pending, 4 running, 5 retryable, 6 completed, 7 failed, 8 discarded, 9 cancelled.

-- Lists by queue and state, among millions of ended jobs. The first two replace indexes that did not begin with the
-- queue. The condition for an ended job is its finished_at: between a range of states and one state the planner would
-- have a choice, and it takes the range.

DROP INDEX deeper_job_inserted;
CREATE INDEX deeper_job_inserted ON deeper_job (queue, inserted_at, id);

DROP INDEX deeper_job_ended;
CREATE INDEX deeper_job_ended ON deeper_job (queue, state, finished_at, id) WHERE finished_at IS NOT NULL;

-- The few jobs that ended and did not complete, by the time of their insertion. A completed job is not in this index.
CREATE INDEX deeper_job_dead ON deeper_job (queue, state, inserted_at, id)
    WHERE finished_at IS NOT NULL AND state <> 6;

-- The jobs that were not due when they were inserted. All others are listed by their due time in deeper_job_inserted.
CREATE INDEX deeper_job_moved ON deeper_job (queue, scheduled_at, id) WHERE scheduled_at <> inserted_at;
