SELECT json_object(
  'id', id, 'workflow', workflow, 'version', version, 'state', state, 'started_at', started_at,
  'closed_at', closed_at, 'error', json(error)
)
FROM beamflow_workflows
WHERE id = :id
