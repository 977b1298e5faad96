SELECT json_group_array(json_array(letter, number, outcome, state, closed_at, json(note), retried_as))
FROM (
  SELECT *
  FROM beamflow_letters
  WHERE workflow_id = :workflow_id
    AND state IN (SELECT value FROM json_each(:states))
    AND (created_at, workflow_id, number) > (:after_time, :after_id, :after_number)
    AND (:workflow IS NULL OR workflow = :workflow)
  ORDER BY created_at, number
  LIMIT :limit
)
