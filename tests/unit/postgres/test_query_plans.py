"""The plans of the statements, also of those within functions: each by its index, whatever the statistics say."""

NODES, RUNNING_EACH = 4, 5_000

ENDED = """
INSERT INTO job (
    id, state, task, arguments, queue, priority, attempt, max_attempts, original_max_attempts,
    inserted_at, scheduled_at, finished_at, node, token, unique_key
)
SELECT
    ('01890000-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid,
    CASE i % 100 WHEN 1 THEN 7 WHEN 2 THEN 8 WHEN 3 THEN 9 ELSE 6 END,
    'shop.mails.send', '[[],{{}}]', CASE i % 3 WHEN 0 THEN 'emails' ELSE 'default' END, 0, 1, 5, 5,
    now() - interval '2 days' + i * interval '1 millisecond',
    now() - interval '2 days' + i * interval '1 millisecond' + (i % 10 / 9) * interval '1 second',
    now() - interval '2 days' + i * interval '1 millisecond' + interval '3 seconds', 1, 'old-' || (i / 500),
    CASE i % 1000 WHEN 0 THEN 'key-' || i END
FROM generate_series(1, {number}) AS i
"""
# Of the running a quarter each belongs to one of the nodes.
LIVE = """
INSERT INTO job (
    id, state, task, arguments, queue, priority, attempt, max_attempts, original_max_attempts,
    inserted_at, scheduled_at, attempted_at, expires_at, node, token
)
SELECT
    gen_random_uuid(), state, 'shop.mails.send', '[[],{{}}]', CASE i % 3 WHEN 0 THEN 'emails' ELSE 'default' END,
    i % 2, 1, 5, 5, now() - interval '1 hour' + i * interval '1 millisecond',
    now() - interval '1 hour' + i * interval '1 millisecond' + delay, CASE state WHEN 4 THEN now() END,
    CASE WHEN state = 3 AND i % 100 = 0 THEN now() + (i - 1000) * interval '1 second' END,
    CASE state WHEN 4 THEN (SELECT min(number) FROM node) + i % {nodes} END,
    CASE state WHEN 4 THEN 'held-' || (i % {nodes}) || '-' || (i / 500) END
FROM (VALUES {lines}) AS line (state, number, delay) CROSS JOIN LATERAL generate_series(1, number) AS i
"""
RUNNING_LINES = f"(4, {NODES * RUNNING_EACH}, interval '0')"
OTHER_LINES = """
(3, 2000, interval '0'), (3, 500, interval '1 minute'), (1, 1000, interval '1 minute'), (1, 3000, interval '1 day'),
(5, 500, interval '1 day')
"""
COUNT = """
TRUNCATE counter, move;
INSERT INTO counter (queue, state, day, count) SELECT queue, state, 0, count(*) FROM job GROUP BY queue, state
"""
