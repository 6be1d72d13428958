-- Lists by queue and state, among millions of ended jobs. The first two replace indexes that did not lead with the
-- queue. That a job has ended is told by finished_at: a range of states beside a state is a choice for the planner,
-- and it takes the range.

DROP INDEX deeper_job_inserted;
CREATE INDEX deeper_job_inserted ON deeper_job (queue, inserted_at, id);

DROP INDEX deeper_job_ended;
CREATE INDEX deeper_job_ended ON deeper_job (queue, state, finished_at, id) WHERE finished_at IS NOT NULL;

-- The few that did not complete, by the time of their insertion. A completed job costs it nothing.
CREATE INDEX deeper_job_dead ON deeper_job (queue, state, inserted_at, id)
    WHERE finished_at IS NOT NULL AND state <> 6;

-- Most jobs are due when they are inserted: by their due time deeper_job_inserted lists them. These are the others.
CREATE INDEX deeper_job_moved ON deeper_job (queue, scheduled_at, id) WHERE scheduled_at <> inserted_at;
