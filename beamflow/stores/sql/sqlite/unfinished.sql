-- Only what every schema has: the file may be of an older beamflow that is running at the moment.
SELECT json_group_array(json_object(
  'id', id, 'workflow', workflow, 'version', version, 'state', state, 'started_at', started_at
))
FROM (
  SELECT id, workflow, version, state, started_at
  FROM beamflow_workflows
  WHERE state = :state AND (started_at, id) > (:after_time, :after_id)
  ORDER BY started_at, id
  LIMIT :limit
)
