SELECT json_group_array(json_array(letter, number, outcome, state, closed_at, json(note), retried_as))
FROM (
  SELECT l.*
  FROM json_each(:states) AS wanted
  CROSS JOIN beamflow_letters AS l
  WHERE l.rowid IN (
    SELECT rowid
    FROM beamflow_letters
    WHERE state = wanted.value
      AND (created_at, workflow_id, number) > (:after_time, :after_id, :after_number)
      AND (:workflow IS NULL OR workflow = :workflow)
    ORDER BY created_at, workflow_id, number
    LIMIT :limit
  )
  ORDER BY l.created_at, l.workflow_id, l.number
  LIMIT :limit
)
