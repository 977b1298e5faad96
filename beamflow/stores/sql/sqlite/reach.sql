SELECT c.started_at, c.id
FROM {matching}
ORDER BY c.started_at {direction}, c.id {direction}
LIMIT 1 OFFSET :enough - 1
