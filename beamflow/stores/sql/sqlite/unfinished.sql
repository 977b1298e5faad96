-- Only what every schema has: the file may be of an older beamflow that is running at the moment.
SELECT json_group_array(json_object(
  'id', id, 'workflow', workflow, 'version', version, 'state', state, 'started_at', started_at
))
FROM (
  SELECT w.id, w.workflow, w.version, w.state, w.started_at
  FROM json_each(:states) AS wanted
  CROSS JOIN beamflow_workflows AS w
  WHERE w.id IN (
    SELECT id
    FROM beamflow_workflows
    WHERE state = wanted.value AND (started_at, id) > (:after_time, :after_id)
    ORDER BY started_at, id
    LIMIT :limit
  )
  ORDER BY w.started_at, w.id
  LIMIT :limit
)
