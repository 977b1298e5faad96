SELECT json_group_array(json_array(wake_at, id))
FROM (
  SELECT wake_at, id
  FROM beamflow_workflows
  WHERE
    wake_at IS NOT NULL
    AND (wake_at, id) > (:after_time, :after_id)
    AND wake_at < :before
    AND state IN (SELECT value FROM json_each(:states))
  ORDER BY wake_at, id
  LIMIT :limit
)
