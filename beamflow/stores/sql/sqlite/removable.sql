-- So many rows of a state from a place on: what of them may go, how many they were, and where they end.
WITH stretch (id, started_at) AS MATERIALIZED (
  SELECT id, started_at
  FROM beamflow_workflows
  WHERE
    state = :state
    AND (started_at, id) > (:after_time, :after_id)
    AND started_at < :closed_before
    AND (:workflow IS NULL OR workflow = :workflow)
    AND workflow NOT IN (SELECT value FROM json_each(:others_than))
  ORDER BY started_at, id
  LIMIT :limit
)
SELECT json_array(
  json((
    SELECT json_group_array(json_array(r.id, r.seq))
    FROM stretch
    CROSS JOIN beamflow_removable AS r ON r.id = stretch.id
    WHERE r.closed_at < :closed_before AND r.needed_until <= :now
  )),
  (SELECT count(*) FROM stretch),
  json((SELECT json_array(started_at, id) FROM stretch ORDER BY started_at DESC, id DESC LIMIT 1))
)
