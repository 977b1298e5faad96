-- Each state gives its own first page from the index; what is left to sort is a few pages at most.
SELECT '[' || coalesce(group_concat(s.summary, ','), '') || ']'
FROM (
  SELECT w.id
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
) AS found
CROSS JOIN beamflow_summaries AS s ON s.id = found.id
