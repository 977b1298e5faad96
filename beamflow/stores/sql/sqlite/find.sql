-- Each state gives its own first page from the index; what is left to sort is a few pages at most.
SELECT json_group_array(json_object(
  'id', id, 'workflow', workflow, 'version', version, 'state', state, 'started_at', started_at,
  'closed_at', closed_at, 'error', json(error)
))
FROM (
  SELECT w.*
  FROM json_each(:states) AS wanted
  CROSS JOIN beamflow_workflows AS w
  WHERE w.rowid IN (
    SELECT rowid
    FROM beamflow_workflows
    WHERE state = wanted.value
      AND (started_at, id) > (:after_time, :after_id)
      AND (:workflow IS NULL OR workflow = :workflow)
      AND (:prefix IS NULL OR substr(id, 1, length(:prefix)) = :prefix)
    ORDER BY started_at, id
    LIMIT :limit
  )
  ORDER BY w.started_at, w.id
  LIMIT :limit
)
