SELECT json_group_array(json_array(letter, state, closed_at, json(note), retried_as))
FROM (
  SELECT l.*
  FROM json_each(:states) AS wanted
  CROSS JOIN beamflow_dead_letters AS l
  WHERE l.rowid IN (
    SELECT rowid
    FROM beamflow_dead_letters
    WHERE state = wanted.value
      AND (created_at, workflow_id) > (:after_time, :after_id)
      AND (:workflow IS NULL OR workflow = :workflow)
      AND (:workflow_id IS NULL OR workflow_id = :workflow_id)
    ORDER BY created_at, workflow_id
    LIMIT :limit
  )
  ORDER BY l.created_at, l.workflow_id
  LIMIT :limit
)
