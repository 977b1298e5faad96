SELECT
  '['
  || coalesce(group_concat((SELECT s.summary FROM beamflow_summaries AS s WHERE s.id = found.id), ','), '')
  || ']'
FROM (
  SELECT id
  FROM beamflow_workflows
  WHERE
    state = :state
    AND (started_at, id) > (:after_time, :after_id)
    AND (wake_at IS NULL OR wake_at <= :now OR watched)
  ORDER BY started_at, id
  LIMIT :limit
) AS found
